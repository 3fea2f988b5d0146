import pytest

from onereward.plan.cards import CARDS, GPU_RESERVE, SHARES, TIMED_PHASES, card_of

GIB = 2**30


def test_cards_by_name_and_by_memory() -> None:
    assert card_of("H100") == (CARDS["h100"], "")
    card, assumed = card_of("80GB")
    assert card == CARDS["h100"] and "80GB is taken for an H100 SXM" in assumed
    card, assumed = card_of("32 gb")
    assert card.memory == 32 * GIB and not card.is_timed and "no speed" in assumed
    card, assumed = card_of("cpu")
    assert not card.is_gpu and not card.is_timed and card.memory > GIB


@pytest.mark.parametrize("text", ["", "a lot", "0GB", "80TB", "-8GB"])
def test_an_unknown_card_is_refused_with_what_there_is(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected a memory such as 80GB, cpu, or one of h100, h200"):
        card_of(text)


def test_reserve_and_shares() -> None:
    assert GPU_RESERVE.of(80 * GIB) == 6 * GIB
    assert all(0 < SHARES.of(phase) < 1 for phase in TIMED_PHASES)
    assert SHARES.source
