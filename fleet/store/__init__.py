"""The journal on disk: append-only, hash-chained, durable before anybody is told. SQLite is named only here."""
