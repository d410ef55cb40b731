# What fioconfig of meta-lmp has: the VPN, and remote actions.
PACKAGECONFIG:append = " vpn actions"
