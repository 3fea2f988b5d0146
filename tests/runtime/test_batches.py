from onereward.runtime.batches import batches_of


def test_batches_hold_what_is_alike_in_order_and_no_more_than_the_size() -> None:
    assert list(batches_of("aBcDeFg", 3, str.isupper)) == [["a", "c", "e"], ["g"], ["B", "D", "F"]]
