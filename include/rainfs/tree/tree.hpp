// SPDX-License-Identifier: Apache-2.0
// The union namespace over an array: tree::FileSystem as the protocol demands it.
//
// Owns the node table and the state of open files. Threads as FileSystem says. Every change follows the
// same shape: find out what is where (replica::locate), act on all exports concerned in parallel, record
// facts for those that missed it, and only then answer.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <optional>
#include <set>

#include "rainfs/base/periodic.hpp"
#include "rainfs/replica/commit_facts.hpp"
#include "rainfs/replica/file.hpp"
#include "rainfs/replica/intent.hpp"
#include "rainfs/tree/held_files.hpp"
#include "rainfs/tree/lock_state.hpp"
#include "rainfs/tree/node_table.hpp"

namespace rainfs::tree {

enum class Reads : std::uint8_t { managed, passthrough, automatic };
std::string_view name_of(Reads reads);

struct TreeOptions {
  bool strict_coherence = false;
  bool read_only = false;
  Reads reads = Reads::automatic;
  // So long after all exports were asked about a directory, those that this node has not changed it on are taken to be
  // as they were. 0: they are asked each time.
  base::Duration directory_look{};
};

// Shared with whoever works with it a moment longer than it is open.
using FilePtr = std::shared_ptr<replica::File>;

// Files of one node that are open on this node of the cluster.
struct OpenState {
  replica::SharedStatePtr shared = std::make_shared<replica::SharedState>();
  std::mutex mutex;            // guards what follows; not held over I/O but where a file gets its first name
  std::vector<FilePtr> files;  // writers first
  std::shared_ptr<LockState> locks;
  // The kernel has an inode's pages cached, or goes to one backing file, never both at a time.
  unsigned cached_opens = 0;
  unsigned passthrough_opens = 0;
  ExportIndex passthrough_export = 0;
  unsigned users = 0;  // open files, and those being opened; guarded by the node table's mutex
};
using OpenStatePtr = std::shared_ptr<OpenState>;

// What was written and neither closed nor synced is sealed after this time without a write, so that an unsealed file
// older than a minute belongs to nobody alive.
inline constexpr base::Duration idle_before_seal = std::chrono::seconds(5);

class Tree final : public FileSystem {
 public:
  Tree(nas::Array& array, ledger::Ledger& ledger, std::string node_name, TreeOptions options);
  ~Tree() override;

  base::Result<Entry> lookup(NodeId parent, std::string_view name, const Caller& caller) override;
  void forget(NodeId node, std::uint64_t count) override;
  base::Result<struct stat> get_attributes(NodeId node) override;
  base::Result<struct stat> set_attributes(NodeId node, const io::Attributes& attributes, OpenFile* file,
                                           bool kill_privileges, const Caller& caller) override;
  base::Result<std::string> read_link(NodeId node) override;
  base::Result<Entry> make_directory(NodeId parent, std::string_view name, mode_t mode, const Caller& caller) override;
  base::Result<Entry> make_node(NodeId parent, std::string_view name, mode_t mode, dev_t device,
                                const Caller& caller) override;
  base::Result<Entry> make_symlink(NodeId parent, std::string_view name, const std::string& target,
                                   const Caller& caller) override;
  base::Result<Entry> link(NodeId node, NodeId new_parent, std::string_view new_name, const Caller& caller) override;
  base::Result<void> unlink(NodeId parent, std::string_view name, const Caller& caller) override;
  base::Result<void> remove_directory(NodeId parent, std::string_view name, const Caller& caller) override;
  base::Result<void> rename(NodeId parent, std::string_view name, NodeId new_parent, std::string_view new_name,
                            unsigned flags, const Caller& caller) override;
  base::Result<Opened> open(NodeId node, int flags, bool kill_privileges, const Caller& caller) override;
  base::Result<Created> create(NodeId parent, std::string_view name, int flags, mode_t mode,
                               const Caller& caller) override;
  base::Result<Created> create_unnamed(NodeId parent, int flags, mode_t mode, const Caller& caller) override;
  base::Result<std::size_t> read(OpenFile& file, off_t offset, std::size_t length,
                                 const std::shared_ptr<base::Buffer>& buffer) override;
  base::Result<std::size_t> read_to_pipe(OpenFile& file, off_t offset, std::size_t length, int pipe) override;
  base::Result<std::size_t> write(OpenFile& file, off_t offset, std::size_t length,
                                  const std::shared_ptr<base::Buffer>& buffer, std::size_t buffer_offset,
                                  WriteMode mode) override;
  base::Result<void> flush(OpenFile& file, std::uint64_t lock_owner) override;
  base::Result<void> sync(OpenFile& file, bool data_only) override;
  void release(std::unique_ptr<OpenFile> file, std::optional<std::uint64_t> flock_owner) override;
  base::Result<void> allocate(OpenFile& file, int mode, off_t offset, off_t length) override;
  base::Result<off_t> seek(OpenFile& file, off_t offset, int whence) override;
  base::Result<std::size_t> copy_range(OpenFile& from, off_t from_offset, OpenFile& to, off_t to_offset,
                                       std::size_t length) override;
  base::Result<std::unique_ptr<OpenDirectory>> open_directory(NodeId node, const Caller& caller) override;
  base::Result<void> read_directory(OpenDirectory& directory, std::uint64_t offset,
                                    const std::function<bool(const ListedEntry&)>& take) override;
  base::Result<void> sync_directory(NodeId node) override;
  base::Result<struct statvfs> file_system_statistics() override;
  base::Result<std::string> get_xattr(NodeId node, const std::string& name, const Caller& caller) override;
  base::Result<std::string> list_xattr(NodeId node, const Caller& caller) override;
  base::Result<void> set_xattr(NodeId node, const std::string& name, std::string_view value, int flags,
                               const Caller& caller) override;
  base::Result<void> remove_xattr(NodeId node, const std::string& name, const Caller& caller) override;
  base::Result<Lock> test_lock(OpenFile& file, std::uint64_t owner, const Lock& lock) override;
  base::Result<void> set_lock(OpenFile& file, std::uint64_t owner, const Lock& lock, bool wait,
                              const std::atomic<bool>& interrupted) override;
  base::Result<void> set_flock(OpenFile& file, std::uint64_t owner, int operation, bool wait,
                               const std::atomic<bool>& interrupted) override;

  // Finishes the renames that killed nodes have left half done, as every look at a name does. Those of the last seconds
  // are left to their nodes; for who has no mount.
  void finish_abandoned_renames() { finish_intents(); }
  // Commits what has been written and left alone for idle_before_seal.
  void seal_idle();
  // Has a thread seal what is idle, and let go of what was replaced, every second for as long as the tree lives.
  void start_upkeep();

  NodeTable& nodes() { return nodes_; }
  Reads reads() const { return reads_; }
  void set_reads(Reads reads) { reads_ = reads; }  // for files that are opened from then on
  std::size_t open_files() const { return open_files_.load(); }
  const replica::Meters& meters() const { return context_.meters; }

 private:
  struct OpenTreeFile;
  struct OpenTreeDirectory;
  using Make = std::function<io::OperationPtr(ExportIndex)>;

  // entries.cpp
  base::Result<replica::Location> find(const std::string& path, ExportSet hint, bool force_sync, bool everywhere,
                                       const Caller* caller);
  NodeTable::Found found_of(const replica::Location& location, const std::string& path) const;
  struct stat stat_of(const replica::Location& location, const Node* node) const;
  Entry admit(NodeId parent, std::string_view name, const std::string& path, const replica::Location& location);
  base::Result<std::optional<Entry>> lookup_written(NodeId parent, std::string_view name, const std::string& path);
  OpenStatePtr open_of(Node* node);
  static void apply_unsealed(const OpenStatePtr& open, struct stat& stat);
  // find(), looking again while this node's renames may have hidden the path. `path` is computed anew.
  base::Result<replica::Location> find_steadily(base::FunctionRef<std::optional<std::string>()> path_now,
                                                std::string& path, ExportSet hint, bool force_sync, bool everywhere,
                                                const Caller* caller);
  // The same of a node that the kernel knows. What another node has renamed is known by both names here until the old
  // one is looked up again: where `path` leads elsewhere by now the file is looked for by its other names.
  base::Result<replica::Location> find_node(NodeId node, std::string& path, ExportSet hint, bool force_sync,
                                            bool everywhere, const Caller* caller);
  OpenStatePtr open_state(NodeId node);
  base::Result<struct stat> unnamed_attributes(NodeId node);
  std::optional<struct stat> look_where_changed(NodeId directory, const std::string& path, DirectoryLook look);
  // One of those open, a writer if need be; null if there is none.
  static FilePtr some_file(OpenState& open, bool writable);
  static FilePtr some_file_locked(OpenState& open, bool writable);  // the caller holds open.mutex
  base::Result<std::string> path_or_gone(NodeId node);

  // create.cpp
  struct Placed {
    std::vector<nas::Answer> replicas;
    ExportSet where, left_out;
    ExportSet unknown;         // may have made it, or not
    ExportSet hanging;         // of these, may still do it
    struct timespec mtime {};  // it was made with
    topology::Rules rules;
    bool look_for_renames = true;  // if a directory is missing
  };
  // Makes something new at `path` on exports of R racks (all data exports if `everywhere`): the first in
  // rendezvous order decides whether the name is free.
  base::Result<Placed> place(const std::string& path, bool everywhere, const Make& make);
  base::Result<Placed> place_once(const std::string& path, bool everywhere, const Make& make, bool look_for_renames);
  base::Result<ExportSet> place_on(const std::string& path, ExportSet targets, const Make& make, Placed& placed,
                                   bool deciding);
  base::Result<void> made_alone(const std::string& path, bool everywhere, const Placed& placed);
  base::Result<void> ensure_directory(ExportIndex index, const std::string& path);
  base::Result<Entry> make_entry(NodeId parent, std::string_view name, bool everywhere, const Make& make);
  base::Result<NodeTable::Found> found_of(const Placed& placed, const std::string& path) const;
  static struct stat stat_of(const Placed& placed, const Node* node);
  struct timespec seal_time() const;
  bool undo(const std::string& path, const Placed& placed, bool directory, int error);
  ExportSet ours(const std::string& path, const Placed& placed, ExportSet among, ExportSet* reached = nullptr);

  // remove.cpp
  base::Result<void> remove(NodeId parent, std::string_view name, bool directory, const Caller& caller);
  // Whether a change that these exports took (or had nothing to take) leaves fewer than R racks that deny it.
  bool enough_to_deny(const std::string& path, ExportSet without) const;
  void prepare_removal(NodeId parent, std::string_view name, const std::string& path);
  base::Result<bool> empty_in_union(const std::string& path);
  // False where it could not be: facts must say then that it does not count. Given an inode, what else has taken the
  // name since stays.
  bool move_aside(ExportIndex index, const std::string& path, std::uint64_t inode = 0);

  // rename.cpp
  struct Renaming;
  void hold_replaced(NodeId parent, std::string_view name, const Renaming& renaming);
  void release_all(HeldFiles::Files files);
  base::Result<void> prepare_rename(Renaming& renaming);
  base::Result<void> remember_absent(Renaming& renaming);
  replica::Intent intent_of(const Renaming& renaming) const;
  base::Result<void> carry_facts(const Renaming& renaming);
  base::Result<void> rename_all(Renaming& renaming);
  base::Result<void> look_once_more(const Renaming& renaming);
  void settle_renamed(const Renaming& renaming, nas::Answers& answers);
  base::Result<void> exchange(Renaming& renaming);
  base::Result<void> remember_renamed(const std::string& path, bool directory, ExportSet good, ExportSet left_out);
  base::Result<void> remember_new(const Renaming& renaming, ExportSet unknown);

  // intents.cpp
  // Writes down what is about to be done; afterwards it is taken away, or left to whoever finds it.
  base::Result<replica::Intent> declare(replica::Intent intent);
  bool retract(const replica::Intent& intent);  // false if no export could be told
  void abandon(const replica::Intent& intent);
  // Finishes what killed nodes have left half done. Cheap where nothing is pending.
  void finish_intents();
  void finish_intent(const std::string& name, ExportSet holders, ExportSet answered);
  bool finish_rename_of(const replica::Intent& intent);
  bool drop_unseen(const replica::Intent& intent, const nas::Answers& old_name, const nas::Answers& new_name,
                   ExportSet unreachable);
  bool remember_finished(const replica::Intent& intent, ExportSet done, ExportSet missed);
  bool remember_lost(const replica::Intent& intent);
  enum class HalfRenamed : std::uint8_t { no, yes, for_good };  // for good: as far as can be told without who is away
  HalfRenamed half_renamed(const std::string& path);
  HalfRenamed half_renamed_now(const std::string& path);
  bool wait_for_renames(const std::string& path);
  bool wait_for_known_renames(const std::string& path);
  base::Result<replica::Location> find_to_change(const std::string& path,
                                                 base::FunctionRef<base::Result<replica::Location>()> find);

  // attributes.cpp
  // `make` leaves the path empty.
  base::Result<struct stat> change(NodeId node, const Make& make, ledger::Why why);
  base::Result<void> clear_privileges(NodeId node, const io::CredentialsPtr& credentials);
  // Operation by descriptor for a node without a name; null if it is not open.
  io::HandlePtr some_handle(NodeId node, ExportIndex& index);
  base::Result<void> on_handles(NodeId node, const Make& make);
  base::Result<std::string> read_by_handle(NodeId node, io::Kind kind, const std::string& name);
  base::Result<struct stat> set_gone(Node* node, const io::Attributes& attributes);
  std::string describe_replicas(const replica::Location& location) const;

  // directories.cpp
  base::Result<void> fill(OpenTreeDirectory& directory);
  bool is_stray(const std::string& path, ExportSet shown_by, ExportSet unknown) const;
  base::Result<void> list_union(const std::string& path, OpenTreeDirectory& directory);

  // locks.cpp
  std::shared_ptr<LockState> lock_state(OpenTreeFile& file, bool make);

  // files.cpp
  base::Result<std::unique_ptr<replica::File>> open_file(NodeId node, const std::string& path, int flags,
                                                         const OpenStatePtr& open, const Caller& caller,
                                                         bool& keep_cache);
  // Our own writers know which replicas are equal before these are sealed: replaces an election.
  static void trust_writers(const OpenStatePtr& open, replica::Location& location);
  void seal_for_stat(const OpenStatePtr& open, const std::string& path);
  // What changes a name or attributes is a commit point for what was written before.
  base::Result<void> commit_writers(const OpenStatePtr& open, const std::string& path);
  // Decides how the kernel may reach the file's contents, and counts it in the open state.
  void choose_way(Opened& opened, OpenTreeFile& file);
  bool past_the_cache(int flags) const;
  base::Result<std::unique_ptr<replica::File>> reopen_unnamed(OpenState& open, int flags, const Caller& caller);
  std::unique_ptr<OpenTreeFile> wrap(NodeId node, OpenStatePtr open, std::unique_ptr<replica::File> file, int flags);

  nas::Array& array_;
  ledger::Ledger& ledger_;
  replica::Context context_;
  const std::string node_name_;
  const TreeOptions options_;
  std::atomic<Reads> reads_;
  NodeTable nodes_;
  WaitGraph waits_;
  HeldFiles held_;
  std::atomic<std::size_t> open_files_{0};
  std::atomic<std::uint64_t> sequence_{0};
  // This node's renames: while one is under way, or when one was, a look at several exports one after the
  // other may have missed a file on all of them.
  std::atomic<std::uint64_t> renames_begun_{0};
  std::atomic<std::uint64_t> renames_ended_{0};
  std::atomic<bool> finishing_intents_{false};
  std::int64_t intents_looked_at_ns_ = 0;       // by whoever set finishing_intents_
  std::mutex intents_mutex_;                    // guards the next four; a leaf lock
  std::set<std::string> active_intents_;        // of this node's renames under way
  std::vector<replica::Intent> known_intents_;  // as read a moment ago
  std::set<std::string> given_up_;              // of these, that have been waited for in vain
  base::TimePoint known_intents_until_{};
  std::mutex writers_mutex_;                // guards writers_; a leaf lock
  std::map<NodeId, OpenStatePtr> writers_;  // open for writing here; bounded by the open files
  std::optional<base::Periodic> upkeep_;
};

}  // namespace rainfs::tree
