#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The transport with real mounts: the rainfs command over a loopback file system, used as programs use a mount.

usage: fuse_loopback_test.py LOOPBACK_MOUNT [unittest arguments]
Needs root and /dev/fuse; exits with 77 where they are missing.
"""
import ctypes
import errno
import fcntl
import mmap
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'support'))
from machine import in_child  # noqa: E402

COMMAND = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else ''
PATIENCE = 60  # seconds until something that must happen is given up; no test is about speed
libc = ctypes.CDLL(None, use_errno=True)
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2


def wait_until(condition, what):
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise AssertionError('waited in vain until ' + what)
        time.sleep(0.01)


def mounts_at(path):
    with open('/proc/self/mountinfo', encoding='utf-8', errors='surrogateescape') as file:
        return sum(1 for line in file if line.split()[4] == path)


def renameat2(old, new, flags):
    if libc.syscall(316, -100, os.fsencode(old), -100, os.fsencode(new), flags) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def fallocate(fd, mode, offset, length):
    if libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def as_user(uid, gid, groups, action):
    """Runs action in a child with that identity; its exception's errno, 0 for none."""
    def as_they_are():
        os.setgroups(groups)
        os.setgid(gid)
        os.setuid(uid)
        action()

    return os.waitstatus_to_exitcode(os.waitpid(in_child(as_they_are), 0)[1])


class Mounted(unittest.TestCase):
    options = ''

    def setUp(self):
        self.top = tempfile.mkdtemp(prefix='rainfs-loopback-')
        os.chmod(self.top, 0o755)
        self.source, self.mount = self.top + '/source', self.top + '/mount'
        self.log = self.top + '/log'
        self.processes = []
        os.mkdir(self.source)
        os.mkdir(self.mount)
        with open(self.top + '/loop.yaml', 'w', encoding='utf-8') as file:
            file.write('array: loop\nreplicas: 1\nracks:\n  - name: r\n    exports:\n'
                       f'      - {{ name: e, path: {self.source} }}\n')
        self.addCleanup(self.clean)
        self.start()

    def clean(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            # What a daemon complained of belongs to the report of a test that fails.
            sys.stderr.write(''.join(line for line in process.stderr if ' error: ' in line or 'anitizer' in line))
            process.stderr.close()
        while mounts_at(self.mount):
            subprocess.run(['umount', '-l', self.mount], check=True)
        shutil.rmtree(self.top)

    def command(self, *arguments, name=COMMAND):
        return [name, self.top + '/loop.yaml', self.mount, *arguments]

    def start(self):
        """Starts a daemon in the foreground and waits until it serves."""
        options = ['-o', self.options] if self.options else []
        process = subprocess.Popen(self.command('-f', *options), stderr=subprocess.PIPE, text=True)
        self.processes.append(process)
        for line in process.stderr:
            if 'serving' in line:
                break
        else:
            self.fail('the daemon ended: ' + str(process.wait()))
        self.daemon = process

    def at(self, name):
        return self.mount + '/' + name

    def bare(self, name):
        return self.source + '/' + name

    def write(self, name, data=b'x'):
        with open(self.at(name), 'wb') as file:
            file.write(data)
        return self.at(name)

    def fails(self, code, call, *arguments, **named):
        with self.assertRaises(OSError) as caught:
            call(*arguments, **named)
        self.assertEqual(errno.errorcode[code], errno.errorcode[caught.exception.errno])

    def daemon_ends(self):
        code = self.daemon.wait(PATIENCE)
        rest = self.daemon.stderr.read()
        self.assertEqual(code, 0, rest)
        self.assertEqual(mounts_at(self.mount), 0)
        return rest


class Files(Mounted):
    def test_a_file_is_what_was_written_on_the_mount_and_beneath(self):
        data = os.urandom(3 * 1024 * 1024 + 17)
        self.write('a', data)
        for path in (self.at('a'), self.bare('a')):
            with open(path, 'rb') as file:
                self.assertEqual(file.read(), data)
        with open(self.at('a'), 'r+b') as file:
            file.seek(100)
            file.write(b'new')
            file.truncate(1000)
        with open(self.bare('a'), 'rb') as file:
            self.assertEqual(file.read(), data[:100] + b'new' + data[103:1000])
        with open(self.at('a'), 'ab') as file:
            file.write(b'end')
        self.assertEqual(os.path.getsize(self.bare('a')), 1003)

    def test_open_flags(self):
        self.write('a', b'12345')
        self.fails(errno.EEXIST, os.open, self.at('a'), os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        self.fails(errno.ENOENT, os.open, self.at('b'), os.O_RDONLY)
        self.fails(errno.ENOTDIR, os.open, self.at('a/b'), os.O_RDONLY)
        self.fails(errno.EISDIR, os.open, self.mount, os.O_WRONLY)
        os.close(os.open(self.at('a'), os.O_WRONLY | os.O_TRUNC))
        self.assertEqual(os.path.getsize(self.bare('a')), 0)

    def test_direct_io(self):
        block = mmap.mmap(-1, 8192)
        block.write(os.urandom(8192))
        fd = os.open(self.at('a'), os.O_CREAT | os.O_RDWR | os.O_DIRECT)
        self.assertEqual(os.pwritev(fd, [block], 0), 8192)
        again = mmap.mmap(-1, 8192)
        self.assertEqual(os.preadv(fd, [again], 0), 8192)
        self.assertEqual(again[:], block[:])
        with mmap.mmap(fd, 8192) as mapped:  # a file that bypasses the cache can be mapped
            self.assertEqual(mapped[:], block[:])
        os.close(fd)

    def test_mappings(self):
        self.write('a', b'.' * 10000)
        with open(self.at('a'), 'r+b') as file, mmap.mmap(file.fileno(), 10000) as shared:
            shared[5000:5003] = b'abc'
            shared.flush()
            with open(self.bare('a'), 'rb') as below:
                self.assertEqual(below.read()[4999:5004], b'.abc.')
            with mmap.mmap(file.fileno(), 10000, access=mmap.ACCESS_COPY) as private:
                private[0:1] = b'!'
                self.assertEqual(shared[0:1], b'.')
            shared[0:1] = b'?'
        with open(self.bare('a'), 'rb') as below:
            wait_until(lambda: os.pread(below.fileno(), 1, 0) == b'?', 'the mapped page is written back')

    def test_a_file_without_a_name(self):
        fd = os.open(self.mount, os.O_TMPFILE | os.O_RDWR, 0o640)
        os.write(fd, b'hidden')
        self.assertEqual(os.listdir(self.source), [])
        self.assertEqual(os.fstat(fd).st_nlink, 0)
        os.link(f'/proc/self/fd/{fd}', self.at('shown'), src_dir_fd=0, follow_symlinks=True)
        os.close(fd)
        with open(self.bare('shown'), 'rb') as file:
            self.assertEqual(file.read(), b'hidden')

    def test_an_unlinked_file_lives_until_it_is_closed(self):
        self.write('a', b'12')
        with open(self.at('a'), 'r+b') as file:
            os.unlink(self.at('a'))
            file.write(b'34')
            file.flush()
            file.seek(0)
            self.assertEqual(file.read(), b'34')
            self.assertEqual(os.fstat(file.fileno()).st_nlink, 0)
        self.assertEqual(os.listdir(self.source), [])

    def test_holes(self):
        fd = os.open(self.at('a'), os.O_CREAT | os.O_RDWR)
        os.pwrite(fd, b'x' * 65536, 1 << 20)
        self.assertEqual(os.lseek(fd, 0, os.SEEK_DATA), 1 << 20)
        self.assertEqual(os.lseek(fd, 1 << 20, os.SEEK_HOLE), (1 << 20) + 65536)
        fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1 << 20, 65536)
        self.assertEqual(os.pread(fd, 10, 1 << 20), bytes(10))
        fallocate(fd, 0, 0, 1 << 21)
        self.assertEqual(os.fstat(fd).st_size, 1 << 21)
        os.close(fd)

    def test_copies_in_the_kernel(self):
        self.write('a', b'0123456789' * 1000)
        with open(self.at('a'), 'rb') as source, open(self.at('b'), 'wb') as target:
            self.assertEqual(os.copy_file_range(source.fileno(), target.fileno(), 5000, 10, 0), 5000)
        with open(self.bare('b'), 'rb') as file:
            self.assertEqual(file.read(), b'0123456789' * 500)

    def test_sync(self):
        with open(self.at('a'), 'wb') as file:
            file.write(b'x')
            file.flush()
            os.fsync(file.fileno())
            os.fdatasync(file.fileno())
        fd = os.open(self.mount, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        os.sync()


class Names(Mounted):
    def test_names_are_bytes(self):
        for name in (b'\xff\xfe', b'a b\nc', b'n' * 255, '\u00e4'.encode()):
            path = os.fsencode(self.mount) + b'/' + name
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
            self.assertIn(name, os.listdir(os.fsencode(self.mount)))
            self.assertTrue(os.path.exists(os.fsencode(self.source) + b'/' + name))
        self.fails(errno.ENAMETOOLONG, open, self.at('n' * 256), 'wb')

    def test_directories(self):
        os.mkdir(self.at('d'))
        self.fails(errno.EEXIST, os.mkdir, self.at('d'))
        self.write('d/a')
        self.fails(errno.ENOTEMPTY, os.rmdir, self.at('d'))
        self.fails(errno.EISDIR, os.unlink, self.at('d'))
        os.unlink(self.at('d/a'))
        os.rmdir(self.at('d'))
        self.fails(errno.ENOENT, os.rmdir, self.at('d'))

    def test_renames(self):
        self.write('a', b'a')
        self.write('b', b'b')
        self.fails(errno.EEXIST, renameat2, self.at('a'), self.at('b'), RENAME_NOREPLACE)
        renameat2(self.at('a'), self.at('b'), RENAME_EXCHANGE)
        with open(self.at('a'), 'rb') as file:
            self.assertEqual(file.read(), b'b')
        os.rename(self.at('a'), self.at('b'))
        self.assertEqual(os.listdir(self.mount), ['b'])
        os.mkdir(self.at('d'))
        os.rename(self.at('b'), self.at('d/c'))
        os.rename(self.at('d'), self.at('e'))
        with open(self.at('e/c'), 'rb') as file:
            self.assertEqual(file.read(), b'b')

    def test_links(self):
        self.write('a')
        os.link(self.at('a'), self.at('b'))
        self.assertEqual(os.stat(self.at('a')).st_nlink, 2)
        self.assertEqual(os.stat(self.at('a')).st_ino, os.stat(self.at('b')).st_ino)
        os.symlink('a', self.at('s'))
        self.assertEqual(os.readlink(self.at('s')), 'a')
        self.assertEqual(os.stat(self.at('s')).st_ino, os.stat(self.at('a')).st_ino)
        long_target = 't' * 4000
        os.symlink(long_target, self.at('l'))
        self.assertEqual(os.readlink(self.at('l')), long_target)

    def test_special_files(self):
        os.mkfifo(self.at('f'), 0o600)
        self.assertTrue(stat.S_ISFIFO(os.stat(self.bare('f')).st_mode))
        os.mknod(self.at('n'), stat.S_IFCHR | 0o600, os.makedev(1, 3))
        self.assertEqual(os.stat(self.at('n')).st_rdev, os.makedev(1, 3))
        with open(self.at('n'), 'wb') as null:
            null.write(b'gone')

    def test_a_large_directory_is_listed_once_and_whole(self):
        names = {f'file-{i:05}' for i in range(10000)}
        for name in names:
            os.close(os.open(self.bare(name), os.O_CREAT | os.O_WRONLY))
        for _ in range(2):
            listed = os.listdir(self.mount)
            self.assertEqual(len(listed), len(names))
            self.assertEqual(set(listed), names)
        with os.scandir(self.mount) as entries:  # with attributes
            inodes = {entry.name: (entry.inode(), entry.stat().st_ino) for entry in entries}
        self.assertEqual(set(inodes), names)
        self.assertTrue(all(listed == found for listed, found in inodes.values()))


class Attributes(Mounted):
    def test_modes_owners_and_times(self):
        self.write('a')
        os.chmod(self.at('a'), 0o640)
        os.chown(self.at('a'), 1234, 2345)
        os.utime(self.at('a'), ns=(1_111_111_111_123_456_789, 1_222_222_222_987_654_321))
        for path in (self.at('a'), self.bare('a')):
            found = os.stat(path)
            self.assertEqual((stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid), (0o640, 1234, 2345))
            self.assertEqual((found.st_atime_ns, found.st_mtime_ns), (1_111_111_111_123_456_789, 1_222_222_222_987_654_321))
        before = time.time()
        os.utime(self.at('a'))
        self.assertGreater(os.stat(self.at('a')).st_mtime, before - 5)

    def test_the_callers_umask_is_obeyed(self):
        old = os.umask(0o027)
        try:
            os.mkdir(self.at('d'), 0o777)
            os.close(os.open(self.at('f'), os.O_CREAT | os.O_WRONLY, 0o666))
            os.mkfifo(self.at('p'), 0o666)
        finally:
            os.umask(old)
        modes = [stat.S_IMODE(os.stat(self.bare(name)).st_mode) for name in 'dfp']
        self.assertEqual(modes, [0o750, 0o640, 0o640])

    def test_extended_attributes(self):
        path = self.write('a')
        os.setxattr(path, 'user.k', b'value')
        self.assertEqual(os.getxattr(path, 'user.k'), b'value')
        self.assertEqual(os.getxattr(self.bare('a'), 'user.k'), b'value')
        self.assertEqual(os.listxattr(path), ['user.k'])
        self.fails(errno.EEXIST, os.setxattr, path, 'user.k', b'', os.XATTR_CREATE)
        os.setxattr(path, 'user.large', b'v' * 2000)
        self.assertEqual(os.getxattr(path, 'user.large'), b'v' * 2000)
        os.removexattr(path, 'user.k')
        self.fails(errno.ENODATA, os.getxattr, path, 'user.k')

    def test_statistics(self):
        mount, bare = os.statvfs(self.mount), os.statvfs(self.source)
        self.assertEqual((mount.f_bsize, mount.f_blocks, mount.f_namemax), (bare.f_bsize, bare.f_blocks, bare.f_namemax))

    def test_each_user_acts_as_himself_with_all_his_groups(self):
        os.chmod(self.mount, 0o777)
        self.assertEqual(as_user(1234, 1234, [], lambda: os.mkdir(self.at('his'))), 0)
        self.assertEqual(os.stat(self.bare('his')).st_uid, 1234)
        os.mkdir(self.at('team'))
        os.chown(self.at('team'), 0, 5000)
        os.chmod(self.at('team'), 0o2770)
        make = lambda: os.mkdir(self.at('team/x'))  # noqa: E731
        self.assertEqual(as_user(1234, 1234, [], make), errno.EACCES)
        self.assertEqual(as_user(1234, 1234, [4999, 5000], make), 0)
        self.assertEqual(os.stat(self.bare('team/x')).st_gid, 5000)

    def test_a_users_write_clears_setuid_and_roots_does_not(self):
        def change(name, how):
            path = self.write(name)
            os.chmod(path, 0o6777)
            code = as_user(1234, 1234, [], lambda: how(path))
            return code, stat.S_IMODE(os.stat(path).st_mode)

        def write(path):
            with open(path, 'r+b') as file:
                file.write(b'y')

        def allocate(path):
            with open(path, 'r+b') as file:
                fallocate(file.fileno(), 0, 0, 100)

        self.assertEqual(change('w', write), (0, 0o777))
        self.assertEqual(change('t', lambda path: os.truncate(path, 0)), (0, 0o777))
        self.assertEqual(change('o', lambda path: open(path, 'wb').close()), (0, 0o777))
        self.assertEqual(change('f', allocate), (0, 0o777))
        path = self.write('r')
        os.chmod(path, 0o6777)
        write(path)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o6777)


class Locks(Mounted):
    def holder(self, take):
        """A child that holds a lock until its standard input is closed."""
        reader, writer = os.pipe()
        told, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(writer)
            take()
            os.write(tell, b'.')
            os.read(reader, 1)
            os._exit(0)
        os.close(reader)
        self.assertEqual(os.read(told, 1), b'.')
        os.close(told)
        os.close(tell)

        def release():
            os.close(writer)
            os.waitpid(pid, 0)
        return release

    def test_record_locks_exclude_processes(self):
        path = self.write('a', b'x' * 100)
        release = self.holder(lambda: fcntl.lockf(os.open(path, os.O_RDWR), fcntl.LOCK_EX, 10, 20))
        fd = os.open(path, os.O_RDWR)
        self.fails(errno.EAGAIN, fcntl.lockf, fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 25)
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 0)
        release()
        fcntl.lockf(fd, fcntl.LOCK_EX, 1, 25)
        os.close(fd)

    def test_flock_excludes(self):
        path = self.write('a')
        with open(path, 'rb') as first, open(path, 'rb') as second:
            fcntl.flock(first, fcntl.LOCK_EX)
            self.fails(errno.EAGAIN, fcntl.flock, second, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(first, fcntl.LOCK_UN)
            fcntl.flock(second, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def test_waiting_for_a_lock_can_be_interrupted(self):
        path = self.write('a')
        release = self.holder(lambda: fcntl.lockf(os.open(path, os.O_RDWR), fcntl.LOCK_EX))

        class Woken(Exception):
            pass

        def wake(*_):
            raise Woken
        old = signal.signal(signal.SIGALRM, wake)
        signal.setitimer(signal.ITIMER_REAL, 0.3, 0.3)
        try:
            with open(path, 'r+b') as file, self.assertRaises(Woken):
                fcntl.lockf(file, fcntl.LOCK_EX)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
        release()

    def test_a_killed_waiter_leaves_no_trace(self):
        path = self.write('a')
        release = self.holder(lambda: fcntl.lockf(os.open(path, os.O_RDWR), fcntl.LOCK_EX))
        pid = os.fork()
        if pid == 0:
            fcntl.lockf(os.open(path, os.O_RDWR), fcntl.LOCK_EX)
            os._exit(0)
        time.sleep(0.2)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        release()
        with open(path, 'r+b') as file:
            fcntl.lockf(file, fcntl.LOCK_EX)

    def test_waiting_for_locks_takes_up_nobody_who_answers(self):
        path = self.write('a')
        release = self.holder(lambda: fcntl.flock(os.open(path, os.O_RDWR), fcntl.LOCK_EX))
        count = 160  # more than the daemon has threads for requests
        granted = []

        def wait():
            with open(path, 'rb') as file:
                fcntl.flock(file, fcntl.LOCK_SH)
                granted.append(1)
        threads = [threading.Thread(target=wait) for _ in range(count)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        self.assertEqual(len(granted), 0)
        self.write('b', b'served all the same')
        release()
        for thread in threads:
            thread.join(PATIENCE)
        self.assertEqual(len(granted), count)


class Passthrough(Files):
    """What Files promises holds where the kernel goes to the files directly, too."""
    options = 'reads=passthrough'

    def test_all_descriptors_of_a_file_see_the_same(self):
        self.write('a', b'1' * 5000)
        with open(self.at('a'), 'r+b', 0) as writer, open(self.at('a'), 'rb', 0) as reader:
            writer.write(b'2' * 10)
            self.assertEqual(reader.read(20), b'2' * 10 + b'1' * 10)
            with open(self.at('a'), 'ab', 0) as appender:
                appender.write(b'3')
            reader.seek(5000)
            self.assertEqual(reader.read(), b'3')


class DirectWrites(Files):
    """And where write-only files bypass the page cache."""
    options = 'coherence=strict'


class Command(Mounted):
    def test_umount_ends_the_daemon(self):
        self.write('a')
        subprocess.run(['umount', self.mount], check=True)
        self.daemon_ends()

    def test_umount_of_a_mount_in_use_is_refused(self):
        with open(self.at('a'), 'wb'):
            self.assertNotEqual(subprocess.run(['umount', self.mount], stderr=subprocess.DEVNULL, check=False).returncode, 0)
        self.write('b')

    def test_a_signal_unmounts(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            self.daemon.send_signal(number)
            self.daemon_ends()
            self.start()

    def test_a_signal_ends_a_mount_in_use_within_its_bound_and_loses_nothing(self):
        fd = os.open(self.at('a'), os.O_CREAT | os.O_WRONLY)
        os.write(fd, b'kept')
        self.daemon.send_signal(signal.SIGTERM)
        wait_until(lambda: mounts_at(self.mount) == 0, 'the mount point is free')
        os.write(fd, b', and this')  # still served
        self.daemon.send_signal(signal.SIGTERM)  # no patience: ends at once
        self.assertIn('open', self.daemon_ends())
        self.fails(errno.ENOTCONN, os.write, fd, b'too late')
        self.fails(errno.ENOTCONN, os.close, fd)
        with open(self.bare('a'), 'rb') as below:
            self.assertEqual(below.read(), b'kept, and this')

    def test_a_hangup_does_not_end_it(self):
        self.daemon.send_signal(signal.SIGHUP)
        self.write('a')

    def test_the_mount_of_a_killed_daemon_is_taken_away_by_the_next(self):
        self.write('a')
        self.daemon.kill()
        self.daemon.wait()
        self.fails(errno.ENOTCONN, os.listdir, self.mount)
        self.start()
        self.assertEqual(os.listdir(self.mount), ['a'])
        self.assertEqual(mounts_at(self.mount), 1)

    def test_a_living_mount_is_not_mounted_over(self):
        again = subprocess.run(self.command(), capture_output=True, text=True, check=False)
        self.assertEqual(again.returncode, 32)
        self.assertIn('mounted there already', again.stderr)
        self.assertEqual(mounts_at(self.mount), 1)

    def test_in_the_background_it_returns_when_it_serves(self):
        subprocess.run(['umount', self.mount], check=True)
        self.daemon_ends()
        # Captured output ends only if the daemon lets go of it.
        done = subprocess.run(self.command('--log', self.log), capture_output=True, text=True, timeout=PATIENCE, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        self.write('a')
        self.assertEqual(os.listdir(self.source), ['a'])
        subprocess.run(['umount', self.mount], check=True)

    def test_what_cannot_be_mounted_is_said(self):
        subprocess.run(['umount', self.mount], check=True)
        self.daemon_ends()

        def run(*words, name=COMMAND):
            return subprocess.run([name, *words], capture_output=True, text=True, check=False, timeout=PATIENCE)
        config = self.top + '/loop.yaml'
        for words, code, text in (((config, self.top + '/none'), 32, 'No such file'),
                                  ((config, config), 32, 'Not a directory'),
                                  ((self.top + '/none.yaml', self.mount), 1, 'none.yaml'),
                                  ((config, self.mount, '-o', 'nonsense'), 1, 'nonsense'),
                                  ((config,), 1, 'MOUNTPOINT'),
                                  ((config, self.mount, '--nonsense'), 1, 'nonsense'),
                                  ((config, self.mount, '-o'), 1, '-o')):
            done = run(*words)
            self.assertEqual(done.returncode, code, words)
            self.assertIn(text, done.stderr)
        os.rmdir(self.source)
        done = run(config, self.mount)
        self.assertEqual(done.returncode, 32)
        self.assertIn(self.source, done.stderr)
        os.mkdir(self.source)
        self.assertEqual(run('--help').returncode, 0)
        self.assertEqual(mounts_at(self.mount), 0)

    def test_it_serves_mount_as_a_helper(self):
        subprocess.run(['umount', self.mount], check=True)
        self.daemon_ends()
        helper = self.top + '/mount.fuse.rainfs'
        os.symlink(COMMAND, helper)
        subprocess.run(self.command('-f', '-o', 'rw', name=helper), check=True)  # here -f is a trial
        self.assertEqual(mounts_at(self.mount), 0)
        subprocess.run(self.command('-s', '-n', '-v', '-t', 'fuse.rainfs', '-o', 'ro,noexec,_netdev,nofail',
                                    '--log', self.log, name=helper), check=True)
        self.fails(errno.EROFS, open, self.at('a'), 'wb')
        subprocess.run(self.command('-o', 'remount,rw', name=helper), check=True)
        self.write('a')
        subprocess.run(['umount', self.mount], check=True)

    def test_the_service_manager_is_told(self):
        import socket
        subprocess.run(['umount', self.mount], check=True)
        self.daemon_ends()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(self.top + '/notify')
            listener.settimeout(PATIENCE)
            environment = dict(os.environ, NOTIFY_SOCKET=self.top + '/notify', WATCHDOG_USEC='200000')
            daemon = subprocess.Popen(self.command('-f'), env=environment, stderr=subprocess.PIPE, text=True)
            self.processes.append(daemon)
            self.assertIn(b'READY=1', listener.recv(1000))
            self.assertEqual(os.listdir(self.mount), [])  # ready means ready
            self.assertEqual(listener.recv(1000), b'WATCHDOG=1')
            self.assertEqual(listener.recv(1000), b'WATCHDOG=1')
            daemon.terminate()
            told = set()
            while b'STOPPING=1' not in told:
                told.add(listener.recv(1000))
            self.assertEqual(daemon.wait(PATIENCE), 0)

    def test_a_stop_with_a_request_that_hangs_frees_everybody_and_says_what_is_left(self):
        below = self.daemon  # serves what the second daemon takes for its export
        self.write('a')
        with open(self.top + '/second.yaml', 'w', encoding='utf-8') as file:
            file.write('array: second\nreplicas: 1\nracks:\n  - name: r\n    exports:\n'
                       f'      - {{ name: e, path: {self.mount} }}\n')
        mount = self.top + '/second'
        os.mkdir(mount)
        second = subprocess.Popen([COMMAND, self.top + '/second.yaml', mount, '-f'], stderr=subprocess.PIPE, text=True)
        self.processes.insert(0, second)
        self.addCleanup(subprocess.run, ['umount', '-l', mount], check=False, stderr=subprocess.DEVNULL)
        second.stderr.readline()
        below.send_signal(signal.SIGSTOP)
        # What was hung must go on before the cleanup waits for it.
        self.addCleanup(below.send_signal, signal.SIGCONT)
        reader = subprocess.Popen(['stat', mount + '/a'], stderr=subprocess.PIPE)
        time.sleep(0.3)
        second.terminate()
        wait_until(lambda: mounts_at(mount) == 0, 'the mount point is free')
        second.terminate()  # does not wait for open files
        self.assertNotEqual(reader.wait(PATIENCE), 0)
        self.assertTrue(reader.stderr.read())
        reader.stderr.close()
        lines = []
        while not any('left behind' in line for line in lines):
            lines.append(second.stderr.readline())
            self.assertTrue(lines[-1], lines)
        self.assertIn('LOOKUP of node 1', ''.join(lines))
        below.send_signal(signal.SIGCONT)
        self.assertEqual(second.wait(PATIENCE), 1)
        self.assertIn('leaving', second.stderr.read())

    def test_many_at_once(self):
        def work(number):
            for i in range(20):
                name = f'{number}-{i}'
                self.write(name, name.encode() * 1000)
                with open(self.at(name), 'rb') as file:
                    if file.read() != name.encode() * 1000:
                        wrong.append(name)
                os.rename(self.at(name), self.at(name + '.done'))
        wrong = []
        threads = [threading.Thread(target=work, args=(n,)) for n in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        self.assertEqual(wrong, [])
        self.assertEqual(len(os.listdir(self.source)), 640)


if __name__ == '__main__':
    if os.getuid() != 0 or not os.path.exists('/dev/fuse'):
        print('needs root and /dev/fuse')
        sys.exit(77)
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
