"""The shards that arq's workers take, and those that were set aside."""
