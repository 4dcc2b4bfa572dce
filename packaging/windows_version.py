"""The version resource that Windows shows in a program's properties, as the text file that PyInstaller reads."""

PROGRAM = "AEGIS"
_TEMPLATE = """VSVersionInfo(
  ffi=FixedFileInfo(filevers={numbers}, prodvers={numbers}, mask=0x3f, flags=0x0, OS=0x40004, fileType=0x1,
                    subtype=0x0, date=(0, 0)),
  kids=[
    StringFileInfo([StringTable('040904B0', [{strings}])]),
    VarFileInfo([VarStruct('Translation', [0x409, 1200])]),
  ],
)
"""


def version_resource(version: str, description: str, executable: str) -> str:
    """For a version of up to four numbers ("0.1.0"); ValueError for anything else Windows could not compare."""
    numbers = [int(part) for part in version.split(".")]
    if len(numbers) > 4 or any(not 0 <= number < 2**16 for number in numbers):
        raise ValueError(f"{version} cannot be a version of a Windows program")
    strings = {
        "CompanyName": f"The {PROGRAM} project",
        "FileDescription": PROGRAM,
        "Comments": description,
        "FileVersion": version,
        "InternalName": executable.removesuffix(".exe"),
        "LegalCopyright": "Apache License 2.0",
        "OriginalFilename": executable,
        "ProductName": PROGRAM,
        "ProductVersion": version,
    }
    filled = ", ".join(f"StringStruct({name!r}, {value!r})" for name, value in strings.items())
    return _TEMPLATE.format(numbers=tuple(numbers + [0] * (4 - len(numbers))), strings=filled)
