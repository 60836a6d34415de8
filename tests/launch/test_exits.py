import signal

import pytest

from launch import exits


@pytest.mark.parametrize(
  ('code', 'again', 'said'),
  [
    (0, False, 'exited with code 0: done'),
    (1, False, 'exited with code 1'),
    (2, False, 'exited with code 2: bad input'),
    (75, True, 'exited with code 75: its state is saved'),
    (76, True, 'exited with code 76: it lost a peer'),
    (77, False, 'exited with code 77'),
    (128, False, 'exited with code 128'),
    (-signal.SIGKILL, True, 'was killed by SIGKILL'),  # as subprocess says it
    (128 + signal.SIGKILL, True, 'was killed by SIGKILL'),  # as a shell does
    (128 + signal.SIGABRT, True, 'was killed by SIGABRT'),
    (128 + signal.SIGHUP, True, 'was killed by SIGHUP'),
    (-120, True, 'was killed by signal 120'),
  ],
)
def test_what_a_code_means(code, again, said):
  assert (exits.starts_again(code), exits.describe(code)) == (again, said)
