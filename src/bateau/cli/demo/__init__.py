"""``bateau demo``: a crawler that proves itself against the disk. Read ``crawl`` first; it is the part worth copying."""
