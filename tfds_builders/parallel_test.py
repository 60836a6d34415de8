import pytest

from tfds_builders import parallel


@pytest.mark.parametrize('workers', [1, 2])
def test_items_are_read_only_as_fast_as_results_are_taken(workers):
  read = []

  def items():
    for i in range(10_000):
      read.append(i)
      yield -i

  results = parallel.ordered_map(abs, items(), workers=workers, chunk=3)
  assert [next(results) for _ in range(50)] == list(range(50))
  ahead = 1 if workers == 1 else 3 * (4 * workers + 1)
  assert len(read) <= 50 + ahead
  results.close()
