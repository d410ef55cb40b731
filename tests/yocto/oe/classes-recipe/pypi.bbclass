PYPI_PACKAGE ?= "${@d.getVar('PN').removeprefix('python3-')}"
SRC_URI += "https://files.example/${PYPI_PACKAGE}-${PV}.tar.gz"
