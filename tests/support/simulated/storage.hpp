// SPDX-License-Identifier: Apache-2.0
// What lies on a simulated export: a tree of inodes in memory that answers io::Operations with the errnos a
// POSIX file system gives.
//
// Owns the inodes; open files and directories keep theirs alive. Names are durable at once, as NFS demands of
// its servers; data only after fsync, flush or a change of attributes: crash() takes the rest back. Time stamps
// that nobody set explicitly are as coarse as a kernel's tick. Not synchronised: one thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "rainfs/io/operation.hpp"

namespace rainfs::simulated {

struct Inode {
  std::uint64_t number = 0;
  mode_t mode = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  std::uint32_t links = 0;
  dev_t device = 0;
  std::int64_t birth_ns = 0, atime_ns = 0, mtime_ns = 0, ctime_ns = 0;
  std::string data;  // of a file, or the target of a symbolic link
  std::map<std::string, std::shared_ptr<Inode>> entries;
  std::map<std::string, std::string> attributes;
  struct Durable {
    std::string data;
    std::int64_t mtime_ns;
  };
  std::optional<Durable> durable;  // what a crash leaves, where it is not what there is
  std::string maker;               // who made it, or wrote to it last, as Storage::actor says
  bool seen = false;               // has had a name among the user's

  bool is_directory() const { return S_ISDIR(mode); }
};
using InodePtr = std::shared_ptr<Inode>;

class Storage {
 public:
  // `clock`: the export's wall clock.
  explicit Storage(std::function<std::int64_t()> clock);

  const InodePtr& root() const { return root_; }
  // Does the operation; `at` is what its file handle refers to, `other` its second. What is opened comes in
  // `opened`. Without `room` nothing new and no longer file fits.
  int perform(io::Operation& op, const InodePtr& at, const InodePtr& other, bool room, InodePtr& opened);
  // Part of a write is done, the rest never happens.
  void tear(const io::Operation& op, const InodePtr& at, std::size_t length);
  // Data that nobody made durable is lost, file by file as `lost` decides.
  void crash(const std::function<bool()>& lost);

  // Who does what is performed next, and who is told when it destroys a file: its last name goes, or its bytes do.
  std::string actor;
  std::function<void(const Inode& inode, const char* how)> destroys;

  // For whoever looks from outside.
  InodePtr find(std::string_view path) const;
  void put(const std::string& path, std::string text);  // makes directories as needed

 private:
  struct Place {
    InodePtr parent;
    std::string leaf;
    InodePtr inode;  // null: nothing has this name
  };
  int walk(const InodePtr& at, std::string_view path, Place& place) const;
  int object(const io::Operation& op, const InodePtr& at, InodePtr& out) const;
  InodePtr make(mode_t mode);
  int add(io::Operation& op, const InodePtr& at, mode_t mode, InodePtr& made);
  int open(io::Operation& op, const InodePtr& at, bool room, InodePtr& opened);
  int link(io::Operation& op, const InodePtr& at, const InodePtr& other);
  int rename(io::Operation& op, const InodePtr& at);
  int remove(io::Operation& op, const InodePtr& at);
  int set_attributes(io::Operation& op, const InodePtr& at, bool room);
  int attribute(io::Operation& op, const InodePtr& at);
  int list(io::Operation& op, const InodePtr& at);
  int data(io::Operation& op, const InodePtr& at, const InodePtr& other, bool room);
  void write(const InodePtr& at, std::size_t offset, const char* bytes, std::size_t length);
  void remember_durable(const InodePtr& inode);
  void touch(Inode& directory);
  void drop_link(const InodePtr& inode);
  void note_destroyed(const Inode& inode, const char* how) const;
  void fill(const Inode& inode, struct statx& stat) const;
  std::int64_t tick() const;

  std::function<std::int64_t()> clock_;
  InodePtr root_;
  std::uint64_t next_number_ = 2;
  // Of removed inodes; used again once nobody has them open.
  std::vector<std::pair<std::uint64_t, std::weak_ptr<Inode>>> free_numbers_;
  std::vector<std::weak_ptr<Inode>> unsynced_;
};

}  // namespace rainfs::simulated
