"""Rows go to the database in portions of which each fits into one statement."""

from __future__ import annotations

from django_durable.store import portions


def lengths(*rows: int) -> list[list[int]]:
    return list(portions.portions(rows, lambda row: row))


def test_short_rows_go_together_in_their_order() -> None:
    assert lengths(3, 1, 2) == [[3, 1, 2]]


def test_a_portion_ends_before_the_row_that_would_be_too_much() -> None:
    half = portions.PORTION // 2
    assert lengths(half, 1, half, half - 10_000) == [[half, 1], [half, half - 10_000]]


def test_a_very_long_row_stands_alone() -> None:
    long = 10 * portions.PORTION
    assert lengths(1, long, long, 1) == [[1], [long], [long], [1]]


def test_many_rows_without_long_texts_are_not_one_statement_either() -> None:
    [first, *_] = lengths(*[0] * 10_000)
    assert len(first) == portions.PORTION // portions.ROW


def test_there_is_no_portion_of_nothing() -> None:
    assert lengths() == []


def test_the_longest_statement_holds_a_portion_and_the_longest_payload() -> None:
    assert portions.longest_statement(1) > 4 * portions.PORTION
    assert portions.longest_statement(10_000_000) > 20_000_000
