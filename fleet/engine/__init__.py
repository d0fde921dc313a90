"""The loop that keeps the promise: observe, plan, act; commands in, events out. Decisions are core's, effects are here."""
