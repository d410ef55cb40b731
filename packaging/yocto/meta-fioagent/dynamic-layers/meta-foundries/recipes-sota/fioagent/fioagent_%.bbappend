# What fioconfig of meta-foundries has by default: remote actions.
PACKAGECONFIG:append = " actions"
