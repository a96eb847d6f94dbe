// SPDX-License-Identifier: Apache-2.0
// Operations on names: what is looked up, made, removed, renamed.
#include "request.hpp"

namespace rainfs::fuse {

namespace {

void on_lookup(fuse_req_t raw, fuse_ino_t parent, const char* name) {
  answer(raw, [&](Request& request) {
    const auto found = request.file_system().lookup(parent, name, request.caller());
    const double negative = request.session().options.negative_timeout_s;
    if (!found && found.error().code == ENOENT && negative > 0) {
      tree::Entry none;  // node 0: there is no such name, and the kernel may remember that
      fuse_entry_param parameter = request.session().parameter_of(none);
      parameter.entry_timeout = negative;
      request.handed_over();
      fuse_reply_entry(raw, &parameter);
      return;
    }
    request.entry(found);
  });
}

void on_forget(fuse_req_t raw, fuse_ino_t node, std::uint64_t count) {
  answer(raw, [&](Request& request) {
    request.file_system().forget(node, count);
    request.none();
  });
}

void on_forget_multi(fuse_req_t raw, std::size_t count, fuse_forget_data* forgets) {
  answer(raw, [&](Request& request) {
    for (std::size_t i = 0; i < count; ++i) request.file_system().forget(forgets[i].ino, forgets[i].nlookup);
    request.none();
  });
}

void on_mknod(fuse_req_t raw, fuse_ino_t parent, const char* name, mode_t mode, dev_t device) {
  answer(raw, [&](Request& request) {
    request.entry(request.file_system().make_node(parent, name, mode, device, request.caller()));
  });
}

void on_mkdir(fuse_req_t raw, fuse_ino_t parent, const char* name, mode_t mode) {
  answer(raw, [&](Request& request) {
    request.entry(request.file_system().make_directory(parent, name, mode, request.caller()));
  });
}

void on_symlink(fuse_req_t raw, const char* target, fuse_ino_t parent, const char* name) {
  answer(raw, [&](Request& request) {
    request.entry(request.file_system().make_symlink(parent, name, target, request.caller()));
  });
}

void on_link(fuse_req_t raw, fuse_ino_t node, fuse_ino_t new_parent, const char* new_name) {
  answer(raw, [&](Request& request) {
    request.entry(request.file_system().link(node, new_parent, new_name, request.caller()));
  });
}

void on_unlink(fuse_req_t raw, fuse_ino_t parent, const char* name) {
  answer(raw, [&](Request& request) { request.done(request.file_system().unlink(parent, name, request.caller())); });
}

void on_rmdir(fuse_req_t raw, fuse_ino_t parent, const char* name) {
  answer(raw, [&](Request& request) {
    request.done(request.file_system().remove_directory(parent, name, request.caller()));
  });
}

void on_rename(fuse_req_t raw, fuse_ino_t parent, const char* name, fuse_ino_t new_parent, const char* new_name,
               unsigned flags) {
  answer(raw, [&](Request& request) {
    request.done(request.file_system().rename(parent, name, new_parent, new_name, flags, request.caller()));
  });
}

}  // namespace

void add_name_operations(fuse_lowlevel_ops& table) {
  table.lookup = on_lookup;
  table.forget = on_forget;
  table.forget_multi = on_forget_multi;
  table.mknod = on_mknod;
  table.mkdir = on_mkdir;
  table.symlink = on_symlink;
  table.link = on_link;
  table.unlink = on_unlink;
  table.rmdir = on_rmdir;
  table.rename = on_rename;
}

}  // namespace rainfs::fuse
