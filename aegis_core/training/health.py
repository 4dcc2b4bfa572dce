"""Signs, seen while it runs, that a training destroys the model; each is told once."""

from collections import deque

from ..events import Log, warning

WINDOW = 10
NEAR_CHANCE = 0.9
DIVERGED_NATS = 0.5


class Health:
    """`base_loss` is the base model's held-out loss, `chance_loss` ln V; both in nats."""

    def __init__(self, base_loss: float, chance_loss: float) -> None:
        self._base_loss, self._chance_loss = base_loss, chance_loss
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._lowest = float("inf")
        self._told: set[str] = set()

    def after_step(self, step: int, loss: float) -> list[Log]:
        """Warnings that the training loss of `step` gives rise to, judged by the mean of the last ten steps."""
        self._recent.append(loss)
        if len(self._recent) < WINDOW:
            return []
        smooth = sum(self._recent) / WINDOW
        self._lowest = min(self._lowest, smooth)
        if smooth >= NEAR_CHANCE * self._chance_loss:
            text = (
                "At step {step} the loss {loss} is near chance, ln V = {chance}: the model says nothing any more. "
                "Stop and train again with a lower learning rate."
            )
            return self._once("chance", text, step=step, loss=f"{smooth:.3f}", chance=f"{self._chance_loss:.3f}")
        if smooth > self._lowest + DIVERGED_NATS:
            text = (
                "At step {step} the loss {loss} has risen {rise} nats above its lowest: the training diverges. "
                "Lower the learning rate."
            )
            return self._once("diverged", text, step=step, loss=f"{smooth:.3f}", rise=f"{smooth - self._lowest:.3f}")
        return []

    def after_measurement(self, step: int, held_out_loss: float) -> list[Log]:
        """A warning if the model is now worse on held-out data than its base."""
        if held_out_loss <= self._base_loss:
            return []
        text = "At step {step} the held-out loss {loss} is above the base model's {base}: lower the learning rate."
        return self._once("worse", text, step=step, loss=f"{held_out_loss:.3f}", base=f"{self._base_loss:.3f}")

    def _once(self, sign: str, text: str, **values: object) -> list[Log]:
        if sign in self._told:
            return []
        self._told.add(sign)
        return [warning(text, **values)]
