SUMMARY = "Certificate rotation and configuration agent for Foundries LmP devices"
SUMMARY:${PN}-factory = "A Foundries factory on one machine, for laboratories"
SUMMARY:${PN}-fioconfig = "fioagent in the place of fioconfig"
SUMMARY:${PN}-pkcs11 = "Keys in PKCS#11 tokens for fioagent"
DESCRIPTION = "Renews the TLS client certificate of a device, and extracts its \
               configuration as fioconfig does. No power cut, bad line or refusal \
               leaves the device unable to reach its gateway."
SECTION = "base"
LICENSE = "BSD-3-Clause"
LIC_FILES_CHKSUM = "\
    file://LICENSE;md5=7cc447758124ec17db5159ca3b288ca6 \
    file://fioconfig/LICENSE;md5=504a5c2455c8bb2fc5b7667833ab1a68 \
"
CVE_PRODUCT = "fioagent"

# This layer is part of the program's repository: what is built is the checkout that
# the layer lies in, so the manifest pins both. Nothing sets S: ${BP} below the place
# where sources are unpacked is the default of scarthgap and of wrynose.
# nooelint: oelint.vars.fileextrapaths
FILESEXTRAPATHS:prepend := "${THISDIR}/../../../../..:"
SRC_URI = "\
    git://github.com/foundriesio/fioconfig;protocol=https;branch=main;destsuffix=${BP}/fioconfig \
    file://LICENSE;subdir=${BP} \
    file://README.md;subdir=${BP} \
    file://pyproject.toml;subdir=${BP} \
    file://fioagent;subdir=${BP} \
    file://packaging/handlers;subdir=${BP} \
    file://packaging/systemd;subdir=${BP} \
    file://run-ptest \
"
# For its handlers alone: the commit that meta-foundries builds.
SRCREV = "af05a010e63a404e6f5b81d1371d0a94ed6da87a"

inherit python_setuptools_build_meta systemd ptest

PACKAGECONFIG ??= "pkcs11"
PACKAGECONFIG[pkcs11] = ",,,"
PACKAGECONFIG[vpn] = ",,,networkmanager-nmcli wireguard-tools"
PACKAGECONFIG[actions] = ",,,fio-diag"
PACKAGECONFIG[factory] = ",,,"

FIOAGENT_STOCK_HANDLERS ?= "\
    aktualizr-toml-update \
    ${@bb.utils.contains('PACKAGECONFIG', 'vpn', 'factory-config-vpn', '', d)} \
    ${@bb.utils.contains('PACKAGECONFIG', 'actions', 'fioconfig-oneshot', '', d)} \
"
FIOAGENT_ACTIONS ?= "${@bb.utils.contains('PACKAGECONFIG', 'actions', 'diag reboot', '', d)}"

SYSTEMD_SERVICE:${PN} = "\
    fioagent.path \
    fioagent.service \
    fioagent-extract.service \
    fioagent-recover.service \
"

do_install:append() {
    install -d ${D}${systemd_system_unitdir}
    install -m 0644 ${S}/packaging/systemd/*.service ${S}/packaging/systemd/*.path \
        ${D}${systemd_system_unitdir}
    install -D -m 0644 ${S}/packaging/systemd/fioagent.tmpfiles \
        ${D}${nonarch_libdir}/tmpfiles.d/fioagent.conf
    install -D -m 0644 ${S}/packaging/systemd/fioagent.default ${D}${sysconfdir}/default/fioagent

    install -d ${D}${datadir}/fioconfig/handlers
    install -m 0755 ${S}/packaging/handlers/* ${D}${datadir}/fioconfig/handlers
    for handler in ${FIOAGENT_STOCK_HANDLERS}; do
        install -m 0755 ${S}/fioconfig/contrib/$handler ${D}${datadir}/fioconfig/handlers
    done
    for action in ${FIOAGENT_ACTIONS}; do
        install -D -m 0755 ${S}/fioconfig/contrib/actions/$action \
            ${D}${datadir}/fioconfig/actions/$action
    done

    client="${@d.getVar('SOTA_CLIENT') or ''}"
    if [ -n "$client" ] && [ "$client" != aktualizr-lite ]; then
        sed -i "s/SOTA_CLIENT=aktualizr-lite/SOTA_CLIENT=$client/" \
            ${D}${datadir}/fioconfig/handlers/aktualizr-toml-update
        install -d ${D}${nonarch_libdir}/fioagent
        printf '[services]\nrestart = ["%s.service"]\n' "$client" \
            > ${D}${nonarch_libdir}/fioagent/10-image.toml
    fi

    if ${@bb.utils.contains('PACKAGECONFIG', 'factory', 'false', 'true', d)}; then
        rm -r ${D}${PYTHON_SITEPACKAGES_DIR}/fioagent/factory ${D}${bindir}/fioagent-factory
    fi
}

# A package is only there where it was asked for, because bitbake builds what any
# package of a recipe needs, whether the image has that package or not.
PACKAGE_BEFORE_PN = "\
    ${PN}-fioconfig \
    ${@bb.utils.contains('PACKAGECONFIG', 'pkcs11', '${PN}-pkcs11', '', d)} \
    ${@bb.utils.contains('PACKAGECONFIG', 'factory', '${PN}-factory', '', d)} \
"

FILES:${PN} += "\
    ${nonarch_libdir}/fioagent \
    ${nonarch_libdir}/tmpfiles.d \
    ${systemd_system_unitdir} \
"
FILES:${PN}-factory += "\
    ${bindir}/fioagent-factory \
    ${PYTHON_SITEPACKAGES_DIR}/fioagent/factory \
"
FILES:${PN}-fioconfig += "\
    ${bindir}/fioconfig \
    ${datadir}/fioconfig \
"
FILES:${PN}-pkcs11 += "\
    ${PYTHON_SITEPACKAGES_DIR}/fioagent/keystore/__pycache__/token.* \
    ${PYTHON_SITEPACKAGES_DIR}/fioagent/keystore/__pycache__/token_*.* \
    ${PYTHON_SITEPACKAGES_DIR}/fioagent/keystore/token.* \
    ${PYTHON_SITEPACKAGES_DIR}/fioagent/keystore/token_*.* \
"
CONFFILES:${PN} = "${sysconfdir}/default/fioagent"

# Whatever a module imports from, on either release; tests/test_yocto.py compares.
RDEPENDS:${PN} = "\
    python3-compression \
    python3-core \
    python3-crypt \
    python3-cryptography \
    python3-ctypes \
    python3-datetime \
    python3-email \
    python3-fcntl \
    python3-io \
    python3-json \
    python3-netclient \
    python3-resource \
    python3-tomllib \
"
# nooelint: oelint.vars.dependsordered
RDEPENDS:${PN} += "${@d.getVar('SOTA_CLIENT') or ''}"
RDEPENDS:${PN}-factory = "\
    ${PN} \
    python3-cheroot \
    python3-core \
    python3-crypt \
    python3-cryptography \
    python3-datetime \
    python3-email \
    python3-fcntl \
    python3-flask \
    python3-io \
    python3-json \
    python3-logging \
    python3-netclient \
    python3-requests \
    python3-resource \
    python3-shell \
    python3-sqlite3 \
    python3-werkzeug \
"
RDEPENDS:${PN}-fioconfig = "${PN}"
RDEPENDS:${PN}-pkcs11 = "\
    ${PN} \
    python3-core \
    python3-cryptography \
    python3-io \
    python3-pkcs11 \
"
RDEPENDS:${PN}-ptest += "python3-core"
RRECOMMENDS:${PN} = "${@bb.utils.contains('PACKAGECONFIG', 'pkcs11', '${PN}-pkcs11', '', d)}"

# In the place of fioconfig: its command, its handlers, its name. An image that has fioconfig
# beside fioagent leaves this package out.
RPROVIDES:${PN}-fioconfig = "fioconfig"
RREPLACES:${PN}-fioconfig = "fioconfig"
RCONFLICTS:${PN}-fioconfig = "fioconfig"
