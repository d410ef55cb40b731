PYTHON_SITEPACKAGES_DIR = "${libdir}/python${PYTHON_BASEVERSION}/site-packages"
FILES:${PN} += "${PYTHON_SITEPACKAGES_DIR}"

do_install() {
    :
}
