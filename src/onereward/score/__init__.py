"""Pairs of images -> the judge's scores, as shards, and failed.jsonl for those that have none."""
