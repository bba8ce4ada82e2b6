"""Where a Vulkan driver lies: LiteRT's GPU accelerator computes through one (WebGPU, by Dawn, on Vulkan).

A driver is told to the Vulkan loader by a small JSON file ("ICD"). Sources: the Vulkan loader's
LoaderDriverInterface.md (environment variables, folders), and the files of Debian's package `chromium`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from mobilebert_kit.errors import InputError

VARIABLES = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES")  # the first one that is set counts, as in the loader
SYSTEM_FOLDERS = (Path("/etc/vulkan/icd.d"), Path("/usr/share/vulkan/icd.d"))
# SwiftShader computes on the CPU: every browser of the Chromium family carries it, and a loader beside it.
SWIFTSHADER = (
    Path("/usr/lib/chromium/vk_swiftshader_icd.json"),  # Debian
    Path("/usr/lib64/chromium-browser/vk_swiftshader_icd.json"),  # Fedora
    Path("/opt/google/chrome/vk_swiftshader_icd.json"),
)
LOADER = "libvulkan.so.1"


def find_vulkan_driver() -> Path | None:
    """The driver that comes first: see `find_vulkan_drivers`. None where there is none."""
    return next(iter(find_vulkan_drivers()), None)


def find_vulkan_drivers() -> tuple[Path, ...]:
    """The files of the Vulkan drivers to offer, in order.

    Those which VK_DRIVER_FILES or VK_ICD_FILENAMES names, and no others where one of these is set. Else the
    system's, all of them, for many belong to GPUs that the machine does not have; and then SwiftShader.
    """
    for variable in VARIABLES:
        if os.environ.get(variable):
            named = (Path(name) for name in os.environ[variable].split(os.pathsep) if name)
            return tuple(path for path in named if path.is_file())
    system = (path for folder in SYSTEM_FOLDERS for path in sorted(folder.glob("*.json")))
    software = next((path for path in SWIFTSHADER if path.is_file()), None)
    return (*system, software) if software else tuple(system)


def vulkan_environment(drivers: tuple[Path, ...]) -> Mapping[str, str]:
    """The environment variables that make the Vulkan loader take these drivers."""
    return dict.fromkeys(VARIABLES, os.pathsep.join(str(path.absolute()) for path in drivers))


def loaders_beside(drivers: tuple[Path, ...]) -> tuple[Path, ...]:
    """Vulkan loaders (libvulkan.so.1) that came with a driver, for a system that has none of its own."""
    beside = (path.absolute().parent / LOADER for path in drivers)
    return tuple(path for path in beside if path.is_file())


def require_vulkan_drivers() -> tuple[Path, ...]:
    """`find_vulkan_drivers()`, one at least.

    Raises:
        InputError: there is none.
    """
    drivers = find_vulkan_drivers()
    if drivers:
        return drivers
    named = next((variable for variable in VARIABLES if os.environ.get(variable)), None)
    where = f"{named}={os.environ[named]}" if named else ", ".join(map(str, (*SYSTEM_FOLDERS, *SWIFTSHADER)))
    raise InputError(
        f"Expected a Vulkan driver, which LiteRT's GPU accelerator computes through, got none in {where}. "
        "Without a GPU install chromium (Debian: apt-get install chromium), which carries SwiftShader, a "
        "software driver; or name a driver's .json file in VK_DRIVER_FILES."
    )
