"""Print a recipe for `litetext distill`: the base of the micro experiments, changed by the TOML on standard input."""

import sys
import tomllib


def main() -> None:
    """Merge, and print the result; inline tables are TOML too."""
    features, epochs, seed = sys.argv[1:]
    recipe = {
        "features": features,
        "preset": "micro-s",
        "model": "micro",
        "epochs": int(epochs),
        "batch_size": 128,
        "lr": 6e-3,
        "weight_decay": 0.0,
        "ema_decay": 0.995,
        "seed": int(seed),
        "validation_fraction": 0.03,
        "validation_phrases": 600,
        "monitor": "loss",
        "patience": 0,
    }
    losses = {"consistency": 0.0, "keys": 1.0, "values": 1.0, "scoring": 1.0}
    changes = tomllib.loads(sys.stdin.read())
    losses |= changes.pop("losses", {})
    for name, value in (recipe | changes).items():
        print(f"{name} = {value!r}")
    print("[losses]")
    for name, value in losses.items():
        print(f"{name} = {value!r}")


if __name__ == "__main__":
    main()
