SUMMARY = "HTTP server in pure Python, for fioagent-factory"
DESCRIPTION = "The server of CherryPy: threads and the standard ssl module. The lab \
               factory runs on it; no device needs it."
HOMEPAGE = "https://github.com/cherrypy/cheroot"
BUGTRACKER = "https://github.com/cherrypy/cheroot/issues"
SECTION = "devel/python"
LICENSE = "BSD-3-Clause"
LIC_FILES_CHKSUM = "file://LICENSE.md;md5=c4e17b64eab9c128f786f44f0dfb570a"
CVE_PRODUCT = "cheroot"

SRC_URI[sha256sum] = "e0b82f797658d26b8613ec8eb563c3b08e6bd6a7921e9d5089bd1175ad1b1740"

inherit pypi python_setuptools_build_meta

DEPENDS += "python3-setuptools-scm-native"

RDEPENDS:${PN} = "\
    python3-core \
    python3-io \
    python3-jaraco-functools \
    python3-more-itertools \
    python3-netclient \
    python3-threading \
"
