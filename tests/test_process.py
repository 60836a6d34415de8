from mtface import process


def test_who_we_are(monkeypatch):
  monkeypatch.setattr(process, 'index', 0)
  monkeypatch.setattr(process, 'count', 1)
  assert process.is_first()
  process.be(1, 4)
  assert (process.index, process.count, process.is_first()) == (1, 4, False)
