PTEST_PATH = "${libdir}/${BPN}/ptest"
FILES:${PN}-ptest = "${PTEST_PATH}"
PACKAGE_BEFORE_PN += "${PN}-ptest"
