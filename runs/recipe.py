"""Print a recipe for `litetext distill`: the base of the micro experiments, changed by the TOML on standard input."""

import sys
import tomllib


def main() -> None:
    """Merge by section, and print what comes out."""
    cache, epochs, seed = sys.argv[1:]
    recipe = {
        "student": {"preset": "micro-s"},
        "data": {"cache": cache, "host": "micro", "validation": 0.03},
        "losses": {"consistency": 0.0, "keys": 1.0, "values": 1.0, "scoring": 1.0},
        "training": {
            "epochs": int(epochs),
            "batch": 128,
            "rate": 6e-3,
            "weight_decay": 0.0,
            "ema": 0.995,
            "seed": int(seed),
        },
        "validation": {"best": "loss", "patience": 0, "phrases": 600},
    }
    for section, values in tomllib.loads(sys.stdin.read()).items():
        recipe.setdefault(section, {}).update(values)
    for section, values in recipe.items():
        print(f"[{section}]")
        for name, value in values.items():
            print(f"{name} = {str(value).lower() if isinstance(value, bool) else repr(value)}")


if __name__ == "__main__":
    main()
