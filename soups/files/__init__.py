"""Files on disk: atomic writes, JSONL logs, hashes, tables, YAML."""
