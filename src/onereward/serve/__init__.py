"""The editor behind a door: a queue of edits, the HTTP API to it and a playground (extras `web` and `playground`)."""
