"""How rates become the table: interleaved, medians, the best contender of each work, ratios to the baseline."""

from __future__ import annotations

from collections.abc import Iterator

from bench.run import Contender, Servers, Work, measure, summarise

SERVERS = Servers("database", "broker", "another broker")


def giving(*rates: float) -> Contender:
    rest: Iterator[float] = iter(rates)
    return lambda _: next(rest)


def test_a_work_counts_with_the_median_of_its_best_contender() -> None:
    works = (
        Work("naive", {"slow": giving(90, 100, 1), "fast": giving(200, 10, 210)}),
        Work("single", {"ours": giving(4_000, 9_000, 5_000)}),
    )

    summary = summarise(works, measure(works, SERVERS, 3, lambda _: None))

    assert [(line.work, line.rate, line.ratio_to_naive) for line in summary] == [
        ("naive", 200, 1.0),
        ("single", 5_000, 25.0),
    ]


def test_rounds_are_interleaved() -> None:
    finished: list[str] = []
    works = (Work("naive", {"a": giving(1, 1), "b": giving(1, 1)}), Work("hot", {"c": giving(1, 1)}))

    measure(works, SERVERS, 2, finished.append)

    assert finished == ["naive: a", "naive: b", "hot: c"] * 2
