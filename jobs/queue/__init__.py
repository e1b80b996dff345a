"""The shards that arq's workers take, and the dead letters."""
