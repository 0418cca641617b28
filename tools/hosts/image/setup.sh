#!/bin/sh
# Makes a bare Debian root a test host: systemd as init, sshd, an administrator without a password who may use sudo.
# Run in the root itself, by a container build or by mmdebstrap.
set -eu

# What a container has no hardware or rights for, and what would compete with the tests for the package database.
systemctl mask \
    systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udev-trigger.service \
    systemd-modules-load.service sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
    systemd-firstboot.service systemd-hwdb-update.service getty.target console-getty.service \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer

# Installing a firewall enables it. Each test decides which one its hosts have.
systemctl disable firewalld.service nftables.service ufw.service

# Every host makes keys of its own at its first start.
rm -f /etc/ssh/ssh_host_*
mkdir -p /etc/systemd/system/ssh.service.d
printf '[Service]\nExecStartPre=\nExecStartPre=/usr/bin/ssh-keygen -A\nExecStartPre=/usr/sbin/sshd -t\n' \
    >/etc/systemd/system/ssh.service.d/keys.conf
systemctl enable ssh.service

useradd --create-home --shell /bin/bash admin
printf 'admin ALL=(ALL) NOPASSWD: ALL\n' >/etc/sudoers.d/admin
chmod 0440 /etc/sudoers.d/admin
