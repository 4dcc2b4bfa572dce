"""The two searches: Optuna studies that live in the run directory and survive a kill."""
