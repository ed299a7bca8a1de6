"""The corpus that ships with the package: category names of detection data sets, names and keywords of emoji."""

from importlib.resources import files

from litetext.prompts.corpus import Prompt, PromptCorpus


def bundled_corpus() -> PromptCorpus:
    """Names of LVIS, COCO, Objects365, Open Images and ODinW classes and English emoji names and keywords.

    Made by `scripts/make_corpus.py`; licences are in NOTICE. Sources are named ``bundled/coco`` and so on.
    """
    data = files("litetext.prompts").joinpath("data")
    names = sorted(entry.name for entry in data.iterdir() if entry.name.endswith(".txt"))
    return PromptCorpus.build(
        Prompt(line, 1, f"bundled/{name.removesuffix('.txt')}")
        for name in names
        for line in data.joinpath(name).read_text(encoding="utf-8").splitlines()
    )
