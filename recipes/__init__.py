"""How the models of the package were trained; not in the wheel."""
