"""The benchmark's driver: starts the peers, runs the load in alternation, reads costs, prints tables."""
