import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from litetext.auditing.counting import count_corpus
from litetext.auditing.vocabulary_use import thin_ranks, use_of_vocabulary
from litetext.prompts.corpus import Prompt, PromptCorpus
from litetext.tokenizer.vocabulary import clip_vocabulary


def test_known_answers() -> None:
    corpus = PromptCorpus.build([Prompt("white dog", 3), Prompt("dog", 1), Prompt("a very long white car", 1)])
    use = use_of_vocabulary(count_corpus(corpus, (5, 8)))
    # start, end, white, dog, a, very, long, car
    assert use.used == 8
    assert use.coverage == 8 / 49_408
    assert use.top[10] == use.top[100] == 1.0
    assert use.frequencies.tolist() == [5, 5, 4, 4, 1, 1, 1, 1]
    assert use.singletons == 4
    assert use.unseen == 4 / 8  # content tokens of distinct prompts: white x2, dog x2, and four once
    assert use.only_truncated == {5: 1, 8: 0}  # at 5 "white car" is cut off; white occurs elsewhere
    assert set(use.most_frequent[:2]) == {("white", 4), ("dog", 4)}
    used = np.flatnonzero(count_corpus(corpus, (8,)).tokens)
    assert use.closure == len(clip_vocabulary().closure(used.tolist()))


def test_what_a_pruning_saves() -> None:
    use = use_of_vocabulary(count_corpus(PromptCorpus.build([Prompt("dog")]), (8,)))
    gone = 49_408 - use.closure
    assert use.saves == {"s0": gone * 512, "s1": gone * 512, "l": gone * 768}
    assert use.to_json()["closure_saves"] == use.saves


def test_top_shares_count_what_they_say() -> None:
    texts = [f"dog {chr(97 + index)}" for index in range(26)]
    use = use_of_vocabulary(count_corpus(PromptCorpus.build(Prompt(text) for text in texts), (8,)))
    total = 26 * 4
    assert use.top[10] == (3 * 26 + 7) / total
    assert use.top_content[10] == (26 + 9) / (26 * 2)


def test_empty_text_uses_start_and_end_only() -> None:
    use = use_of_vocabulary(count_corpus(PromptCorpus.build([Prompt("")]), (8,)))
    assert (use.used, use.unseen, use.most_frequent) == (2, 0.0, [])
    assert use.top_content[100] == 0.0


@given(st.integers(0, 100_000))
def test_thinned_ranks_span_all(count: int) -> None:
    ranks = thin_ranks(count)
    assert len(ranks) <= 200
    assert (np.diff(ranks) > 0).all()
    if count:
        assert (ranks[0], ranks[-1]) == (1, count)


def test_json_is_plain() -> None:
    found = use_of_vocabulary(count_corpus(PromptCorpus.build([Prompt("white dog")]), (8,))).to_json()
    assert json.loads(json.dumps(found)) == found
    assert found["top"]["100"] == 1.0  # type: ignore[index]
