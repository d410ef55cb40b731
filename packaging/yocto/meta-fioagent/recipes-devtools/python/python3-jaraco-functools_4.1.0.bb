SUMMARY = "Functools like those of the standard library, for python3-cheroot"
DESCRIPTION = "What cheroot needs of jaraco, a package in the namespace of that name."
HOMEPAGE = "https://github.com/jaraco/jaraco.functools"
BUGTRACKER = "https://github.com/jaraco/jaraco.functools/issues"
SECTION = "devel/python"
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://LICENSE;md5=141643e11c48898150daa83802dbc65f"
CVE_PRODUCT = "jaraco.functools"

SRC_URI[sha256sum] = "70f7e0e2ae076498e212562325e805204fc092d7b4c17e0e86c959e249701a9d"

inherit pypi python_setuptools_build_meta

PYPI_PACKAGE = "jaraco_functools"

DEPENDS += "python3-setuptools-scm-native"

RDEPENDS:${PN} = "\
    python3-core \
    python3-more-itertools \
"
