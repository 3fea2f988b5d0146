"""Who answers and what is kept of it: persons, votes, ratings and the chain of events, in one database (no torch)."""
