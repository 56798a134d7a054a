"""Finds the packages: the top-level folders are installed under ``gridzero.``; ``scripts`` is ``gridzero`` itself."""

from setuptools import find_packages, setup

setup(
    packages=[
        *("gridzero", *(f"gridzero.{name}" for name in find_packages("scripts"))),
        *(f"gridzero.{name}" for name in find_packages(include=["envs*", "agents*", "llm_rl*"])),
    ]
)
