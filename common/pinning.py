"""Imports of ours that find this code, whatever else is called `common` or `server`.

Our packages have everyday names, and Python takes the first one that it finds: a user's `server.py`
in the folder where a program is started would be ours. So before anything of ours is imported,
this file, which is run by its path and imports nothing of ours, puts our packages where Python
looks first.

A user's own module of such a name is not lost: what our package lacks is looked up in theirs,
attributes and submodules alike. Only a submodule of the same name as one of ours is out of reach.

    python -P …/common/pinning.py MODULE ARGUMENTS…    as `python -m MODULE ARGUMENTS…`, pinned
"""

import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, Final, final

ROOT: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
NAMES: Final = ("common", "server", "client", "sims")

_theirs: dict[str, ModuleType] = {}


@final
class Package(ModuleType):
    """A package of ours, and behind it a module of the user's."""

    def __getattr__(self, name: str) -> Any:
        # Special names are asked for by tools that look at every module.
        theirs = None if name.startswith("__") or _is_ours(self, name) else _of_user(self.__name__)
        if theirs is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(theirs, name)

    def __setattr__(self, name: str, value: Any) -> None:
        theirs = _theirs.get(self.__name__)
        if hasattr(theirs, name) and not name.startswith("__") and not _is_ours(self, name):
            setattr(theirs, name, value)
        else:
            super().__setattr__(name, value)


@final
class UserSubmodules:
    """Finds `common.mine` in a package of the user's, when there is none of that name in ours."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        package, _, submodule = name.partition(".")
        if package not in NAMES or not submodule or "." in submodule:
            return None
        folders = getattr(_of_user(package), "__path__", None)
        return PathFinder.find_spec(name, folders) if folders else None


def _is_ours(package: ModuleType, submodule: str) -> bool:
    return PathFinder.find_spec(f"{package.__name__}.{submodule}", package.__path__) is not None


def _is_copy(folder: str) -> bool:
    """Whether it holds a vicinal, this or another, which is not the user's."""
    return all(os.path.isdir(os.path.join(folder, name)) for name in NAMES)  # noqa: PTH112, PTH118


def _of_user(name: str) -> ModuleType | None:
    """The user's module, loaded when it is first asked for; None where there is none."""
    if name not in _theirs:
        spec = PathFinder.find_spec(name, [folder for folder in sys.path if not _is_copy(folder)])
        if spec is None:
            return None
        _theirs[name] = module = importlib.util.module_from_spec(spec)
        if spec.loader is not None:
            try:
                spec.loader.exec_module(module)
            except BaseException:
                del _theirs[name]
                raise
    return _theirs[name]


def pin() -> None:
    """Put our packages into sys.modules. Raises ImportError where a loaded module is in the way."""
    for name in NAMES:
        folder = os.path.join(ROOT, name)  # noqa: PTH118
        loaded = sys.modules.get(name)
        if loaded is not None and [*getattr(loaded, "__path__", ())][:1] == [folder]:
            continue
        init = os.path.join(folder, "__init__.py")  # noqa: PTH118
        spec = importlib.util.spec_from_file_location(
            name, init, submodule_search_locations=[folder]
        )
        assert spec is not None and spec.loader is not None
        package = importlib.util.module_from_spec(spec)
        package.__class__ = Package
        for other in [one for one in sys.modules if one.startswith(f"{name}.")]:
            if _is_ours(package, other.split(".")[1]):
                where = getattr(sys.modules[other], "__file__", "elsewhere")
                raise ImportError(
                    f"vicinal has a module {other} of its own, and {where} is loaded under that "
                    "name: rename yours"
                )
        if loaded is not None:
            _theirs[name] = loaded
        sys.modules[name] = package
        spec.loader.exec_module(package)
    if ROOT not in sys.path:
        sys.path.append(ROOT)  # of a checkout that is not installed, for its other folders
    if not any(type(finder).__name__ == UserSubmodules.__name__ for finder in sys.meta_path):
        sys.meta_path.append(UserSubmodules())


pin()

if __name__ == "__main__":
    import runpy

    del sys.argv[0]
    # Under its own name `__main__` stays this file: what multiprocessing starts pins as well.
    runpy.run_module(sys.argv[0], run_name="__main__")
