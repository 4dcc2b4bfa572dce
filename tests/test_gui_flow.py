"""The wizard as a table, tried without a window."""

import pytest

from aegis_core.freshness import State
from aegis_gui.flow import HOME, PAGES, Action, Do, Flow, Status

FRESH = {
    "check": State.READY,
    "prepare": State.READY,
    "search": State.DISABLED,
    "schedule": State.DISABLED,
    "train": State.WAITING,
    "fuse": State.WAITING,
    "export": State.WAITING,
    "chat": State.WAITING,
    "report": State.WAITING,
}


def test_without_a_run_only_the_list_of_runs_can_be_reached() -> None:
    flow = Flow()
    assert [page for page in PAGES if flow.reachable(page)] == [HOME]
    assert flow.next(HOME) is None
    assert flow.primary(HOME).do is Do.NOTHING


def test_back_and_next_walk_through_every_page_in_order() -> None:
    flow, page, walked = Flow(FRESH), HOME, [HOME]
    while following := flow.next(page):
        assert flow.back(following) == page
        page = following
        walked.append(page)
    assert tuple(walked) == PAGES


def test_a_ready_step_offers_to_run() -> None:
    assert Flow(FRESH).primary("check") == Action(Do.RUN, "check")


def test_a_waiting_step_leads_to_the_first_one_it_needs() -> None:
    assert Flow(FRESH).primary("export") == Action(Do.GO, "prepare")
    assert Flow(FRESH | {"prepare": State.DONE, "train": State.READY}).primary("export") == Action(Do.GO, "train")
    assert not Flow(FRESH).runnable("export")


def test_a_finished_or_switched_off_step_leads_on() -> None:
    assert Flow(FRESH | {"check": State.DONE}).primary("check") == Action(Do.NEXT, "prepare")
    assert Flow(FRESH).primary("search") == Action(Do.NEXT, "schedule")


def test_the_last_page_ends_the_way() -> None:
    assert Flow(dict.fromkeys(FRESH, State.DONE)).primary("report").do is Do.NOTHING


def test_an_outdated_step_offers_to_run_again() -> None:
    flow = Flow(FRESH | {"prepare": State.STALE})
    assert flow.status("prepare") is Status.STALE
    assert flow.primary("prepare") == Action(Do.RUN_AGAIN, "prepare")


def test_a_stopped_step_offers_to_go_on_and_a_failed_one_to_try_again() -> None:
    flow = Flow(FRESH, ended={"prepare": Status.CANCELLED, "check": Status.FAILED})
    assert flow.primary("prepare") == Action(Do.RESUME, "prepare")
    assert flow.primary("check") == Action(Do.RUN_AGAIN, "check")


def test_a_failure_of_the_past_does_not_hide_that_the_step_is_done_now() -> None:
    assert Flow(FRESH | {"check": State.DONE}, ended={"check": Status.FAILED}).status("check") is Status.DONE


@pytest.mark.parametrize("page", PAGES[1:])
def test_while_a_step_runs_no_page_offers_to_run_another(page: str) -> None:
    flow = Flow(FRESH, running="prepare", busy=True)
    assert flow.primary(page).do in (Do.NOTHING, Do.NEXT)
    assert not flow.runnable(page)
    assert not flow.anything_to_run()


def test_pausing_shows_on_the_running_step_alone() -> None:
    flow = Flow(FRESH, running="prepare", paused=True, busy=True)
    assert flow.status("prepare") is Status.PAUSED
    assert flow.status("check") is Status.READY


def test_a_run_goes_on_at_its_first_unfinished_step() -> None:
    done = FRESH | {"check": State.DONE, "prepare": State.DONE, "train": State.READY}
    assert Flow(done).first_unfinished() == "train"
    assert Flow(done).primary(HOME) == Action(Do.GO, "train")
