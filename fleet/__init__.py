"""The domain and the engine of anew: what a fleet is, what a rollout promises, and the daemon that keeps the promise."""
