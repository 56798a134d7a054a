"""The grid tasks against the environment, and against exact values."""

from __future__ import annotations

import itertools

import numpy as np

from gridzero.envs import GridWorld
from gridzero.envs.tasks import Problem, make_task
from gridzero.envs.tasks.grid_path import MOVES


def values(env: GridWorld) -> np.ndarray:
    """Steps to the target from every state, by value iteration on the exact model; inf where it is out of reach."""
    mdp = env.mdp
    cost = np.where(mdp.terminal, 0.0, np.inf)
    for _ in range(mdp.num_states + 1):
        cost = np.where(mdp.terminal, cost, 1 + cost[mdp.successors[:, :, 0]].min(axis=1))
    reached = np.zeros(mdp.num_states)
    reached[list(env.layout.where("G"))] = 1
    return np.where(mdp.terminal & (reached == 0), np.inf, cost)


def walked(env: GridWorld, moves: str) -> tuple[bool, bool]:
    """Whether the environment says that the target is reached, and whether only by the last move."""
    env.reset(seed=0)
    for count, letter in enumerate(moves, 1):
        _, _, terminated, _, info = env.step(MOVES.index(letter))
        if terminated:
            return bool(info["is_success"]), count == len(moves)
    return False, False


def test_every_answer_up_to_the_shortest_length_is_judged_as_the_environment_does() -> None:
    for options in ({"height": 3, "width": 3}, {"height": 3, "width": 5, "kind": "maze"}, {"height": 2, "width": 4}):
        task = make_task("grid-path", **options)
        rng = np.random.default_rng(0)
        for _ in range(8):
            problem = task.sample(rng)
            env = GridWorld(problem.question)
            start, _ = env.reset(seed=0)
            shortest = int(values(env)[start])
            assert len(problem.reference) == shortest
            for length in range(1, min(shortest + 1, 5) + 1):
                for letters in itertools.product(MOVES, repeat=length):
                    answer = "".join(letters)
                    expected = walked(env, answer) == (True, True) and length == shortest
                    assert task.check(problem, answer)[0] == expected, (problem.question, answer)


def test_worked_paths_name_the_places_that_the_environment_visits() -> None:
    rng = np.random.default_rng(1)
    for search in (True, False):
        task = make_task("grid-path", height=6, width=6, search=search)
        for _ in range(20):
            problem = task.sample(rng)
            env = GridWorld(problem.question, observation="coordinates")
            place, _ = env.reset(seed=0)
            head, _, steps = task.work(problem, rng).partition(":")
            places = ["".join(map(str, np.asarray(place).tolist()))]
            if search:
                assert steps[:2] == places[0]
                steps = steps[2:]
            for step in range(0, len(steps), 3):
                place, *_ = env.step(MOVES.index(steps[step]))
                assert steps[step + 1 : step + 3] == "".join(map(str, np.asarray(place).tolist()))
                places.append(steps[step + 1 : step + 3])
            assert search or head == f"{places[0]}>{places[-1]}"


def test_the_maps_of_a_search_show_a_best_move_wherever_the_target_is_so_near() -> None:
    task = make_task("grid-path", height=5, width=6)
    rng = np.random.default_rng(4)
    for _ in range(20):
        problem = task.sample(rng)
        mdp = GridWorld(problem.question).mdp
        distances = values(GridWorld(problem.question))
        maps = task.work(problem, rng).partition(":")[0].split("0")[1:]
        given = problem.question.replace("\n", "")
        assert len(maps) == distances[given.index("S")]
        for steps, text in enumerate(maps, 1):
            cells = "".join(symbol for symbol in text if not symbol.isdigit())
            assert text == "".join(cells[6 * row : 6 * row + 6] + (str(row + 1) if row < 4 else "") for row in range(5))
            for state, symbol in enumerate(cells):
                if 1 <= distances[state] <= steps:
                    assert distances[mdp.successors[state, MOVES.index(symbol), 0]] == distances[state] - 1
                else:
                    assert symbol == given[state]


def test_a_walk_is_the_environment_s() -> None:
    task = make_task("grid-walk", height=5, width=5, turns=9)
    rng = np.random.default_rng(2)
    for _ in range(30):
        problem = task.sample(rng)
        env = GridWorld(problem.question)
        state, _ = env.reset(seed=0)
        assert values(env)[state] <= 9
        completions: list[str] = []
        done = False
        while True:
            letter = str(rng.choice(list(MOVES + "?")))
            completions.append(f"<think></think> <answer>{letter}</answer>")
            if letter != "?":
                state, _, done, _, _ = env.step(MOVES.index(letter))
            reply = task.reply(problem, completions)
            assert (reply is None) == (done or len(completions) == 9)
            verdict = task.judge(problem, completions)
            assert verdict.correct == done
            assert verdict.well_formed
            assert verdict.answer == "".join(completion[24] for completion in completions)
            if reply is None:
                break
            shown = GridWorld(reply.strip("\n") + "\n")
            assert shown.reset(seed=0)[0] == state
            assert (shown.layout.mask("blocks") == env.layout.mask("blocks")).all()
            assert (shown.layout.mask("target") == env.layout.mask("target")).all()


def test_the_work_of_a_walk_is_the_distance_after_each_move() -> None:
    task = make_task("grid-walk")
    rng = np.random.default_rng(3)
    for _ in range(20):
        problem = task.sample(rng)
        env = GridWorld(problem.question)
        state, _ = env.reset(seed=0)
        distances = values(env)
        parts = []
        for move, letter in enumerate(MOVES):
            after = int(env.mdp.successors[state, move, 0])
            parts.append(letter + ("#" if after == state else f"{distances[after]:.0f}"))
        assert task.work(problem, rng) == ",".join(parts)
        best = min(part[1:] for part in parts if part[1:] != "#")
        assert f"{task.answer(problem)}{best}" in parts


def test_what_comes_after_the_end_of_a_walk_changes_nothing() -> None:
    task = make_task("grid-walk", template="plain")
    problem = Problem("S.#\n..G", "R")
    assert task.judge(problem, ["R", "D", "R", "L", "junk"]) == task.judge(problem, ["R", "D", "R"])
    assert task.judge(problem, ["U"] * 50).answer == "U" * 12
