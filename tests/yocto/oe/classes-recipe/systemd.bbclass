systemd_system_unitdir = "${nonarch_libdir}/systemd/system"
