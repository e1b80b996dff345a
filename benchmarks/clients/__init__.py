"""The peers, each a process of its own, written as a user of that library would."""
