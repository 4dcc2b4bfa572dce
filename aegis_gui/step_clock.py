"""Where on the axis of steps a moment lies. Qt-free."""


class StepClock:
    """Told when each step ended, it places a reading taken since then between that step and the next.

    How far towards the next one is judged by how long the last one took; before the first step everything is at 0.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._step = 0
        self._at = self._seconds = 0.0

    def start(self, at: float) -> None:
        """An attempt begins: nothing that lies before it says how long a step takes."""
        self._at, self._seconds = at, 0.0

    def step_ended(self, step: int, at: float) -> None:
        """At Unix time `at`; 0 where nobody knows it."""
        if at and self._at and step > self._step:
            self._seconds = at - self._at
        self._step, self._at = step, at

    def place(self, at: float) -> float:
        """The place of a moment after the last step that was told of."""
        if not self._step or not at or not self._at or self._seconds <= 0:
            return float(self._step)
        return self._step + min(max((at - self._at) / self._seconds, 0.0), 0.99)
