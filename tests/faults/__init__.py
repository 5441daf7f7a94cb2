"""Hostile and broken peers: a client of raw bytes, a wire that can be cut, slowed and forged."""
