"""What every server of ours is made of: limits, headers, sessions, pages. Knows no route and no database."""
