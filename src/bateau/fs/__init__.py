"""Files and directories on any runtime: ``open``, ``Path``, ``walk``, temporary files, and what ``os`` and ``shutil`` do.

Names and arguments are Python's own; what touches the disk is awaited.
"""

from __future__ import annotations

from .files import AsyncFile as AsyncFile
from .files import BinaryFile as BinaryFile
from .files import TextFile as TextFile
from .files import open as open  # noqa: A004  # Python's name
from .files import wrap_file as wrap_file
from .functions import DirEntry as DirEntry
from .functions import access as access
from .functions import chmod as chmod
from .functions import copy as copy
from .functions import copy2 as copy2
from .functions import copyfile as copyfile
from .functions import copymode as copymode
from .functions import copystat as copystat
from .functions import copytree as copytree
from .functions import disk_usage as disk_usage
from .functions import exists as exists
from .functions import getcwd as getcwd
from .functions import getmtime as getmtime
from .functions import getsize as getsize
from .functions import isdir as isdir
from .functions import isfile as isfile
from .functions import islink as islink
from .functions import lexists as lexists
from .functions import link as link
from .functions import listdir as listdir
from .functions import lstat as lstat
from .functions import makedirs as makedirs
from .functions import mkdir as mkdir
from .functions import move as move
from .functions import readlink as readlink
from .functions import realpath as realpath
from .functions import remove as remove
from .functions import removedirs as removedirs
from .functions import rename as rename
from .functions import renames as renames
from .functions import replace as replace
from .functions import rmdir as rmdir
from .functions import rmtree as rmtree
from .functions import samefile as samefile
from .functions import scandir as scandir
from .functions import stat as stat
from .functions import symlink as symlink
from .functions import truncate as truncate
from .functions import unlink as unlink
from .functions import utime as utime
from .functions import walk as walk
from .functions import which as which
from .paths import Path as Path
from .temporary import NamedTemporaryFile as NamedTemporaryFile
from .temporary import SpooledTemporaryFile as SpooledTemporaryFile
from .temporary import TemporaryDirectory as TemporaryDirectory
from .temporary import TemporaryFile as TemporaryFile
from .temporary import gettempdir as gettempdir
from .temporary import mkdtemp as mkdtemp
from .temporary import mkstemp as mkstemp
