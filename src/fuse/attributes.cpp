// SPDX-License-Identifier: Apache-2.0
// Operations on attributes: stat, chmod, truncate and the like, link targets, extended attributes, statfs.
#include "kernel.hpp"
#include "request.hpp"

namespace rainfs::fuse {

namespace {

tree::OpenFile* open_file(const fuse_file_info* info) {
  return info == nullptr ? nullptr : handle_of<FileHandle>(info->fh).file.get();
}

void on_getattr(fuse_req_t raw, fuse_ino_t node, fuse_file_info*) {
  answer(raw, [&](Request& request) {
    const auto found = request.file_system().get_attributes(node);
    if (found) {
      request.attributes(*found);
    } else {
      request.error(found.error());
    }
  });
}

io::Attributes changes_of(const struct stat& wanted, int to_set) {
  using io::Attributes;
  Attributes changes;
  if ((to_set & FUSE_SET_ATTR_MODE) != 0) {
    changes.valid |= Attributes::mode_set;
    changes.mode = wanted.st_mode;
  }
  if ((to_set & FUSE_SET_ATTR_UID) != 0) {
    changes.valid |= Attributes::uid_set;
    changes.uid = wanted.st_uid;
  }
  if ((to_set & FUSE_SET_ATTR_GID) != 0) {
    changes.valid |= Attributes::gid_set;
    changes.gid = wanted.st_gid;
  }
  if ((to_set & FUSE_SET_ATTR_SIZE) != 0) {
    changes.valid |= Attributes::size_set;
    changes.size = wanted.st_size;
  }
  if ((to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW)) != 0) {
    changes.valid |= Attributes::atime_set;
    changes.atime = wanted.st_atim;
    if ((to_set & FUSE_SET_ATTR_ATIME_NOW) != 0) changes.atime = {0, UTIME_NOW};
  }
  if ((to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)) != 0) {
    changes.valid |= Attributes::mtime_set;
    changes.mtime = wanted.st_mtim;
    if ((to_set & FUSE_SET_ATTR_MTIME_NOW) != 0) changes.mtime = {0, UTIME_NOW};
  }
  return changes;
}

void on_setattr(fuse_req_t raw, fuse_ino_t node, struct stat* wanted, int to_set, fuse_file_info* info) {
  answer(raw, [&](Request& request) {
    const auto changed = request.file_system().set_attributes(node, changes_of(*wanted, to_set), open_file(info),
                                                              request.context().kill_privileges, request.caller());
    if (changed) {
      request.attributes(*changed);
    } else {
      request.error(changed.error());
    }
  });
}

void on_readlink(fuse_req_t raw, fuse_ino_t node) {
  answer(raw, [&](Request& request) {
    const auto target = request.file_system().read_link(node);
    if (target) {
      request.text(target->c_str());
    } else {
      request.error(target.error());
    }
  });
}

void on_statfs(fuse_req_t raw, fuse_ino_t) {
  answer(raw, [&](Request& request) {
    const auto statistics = request.file_system().file_system_statistics();
    if (statistics) {
      request.statistics(*statistics);
    } else {
      request.error(statistics.error());
    }
  });
}

// getxattr(2) and listxattr(2): size 0 asks for the size, too small a buffer is ERANGE.
void reply_sized(Request& request, const base::Result<std::string>& value, std::size_t size) {
  if (!value) {
    request.error(value.error());
  } else if (size == 0) {
    request.size(value->size());
  } else if (value->size() > size) {
    request.error(ERANGE);
  } else {
    request.data(value->data(), value->size());
  }
}

void on_getxattr(fuse_req_t raw, fuse_ino_t node, const char* name, std::size_t size) {
  answer(raw, [&](Request& request) {
    if (std::string_view(name) == kernel::attribute_of_nobody) {
      request.error(ENODATA);
      return;
    }
    reply_sized(request, request.file_system().get_xattr(node, name, request.caller()), size);
  });
}

void on_listxattr(fuse_req_t raw, fuse_ino_t node, std::size_t size) {
  answer(raw, [&](Request& request) {
    reply_sized(request, request.file_system().list_xattr(node, request.caller()), size);
  });
}

void on_setxattr(fuse_req_t raw, fuse_ino_t node, const char* name, const char* value, std::size_t size, int flags) {
  answer(raw, [&](Request& request) {
    request.done(request.file_system().set_xattr(node, name, {value, size}, flags, request.caller()));
  });
}

void on_removexattr(fuse_req_t raw, fuse_ino_t node, const char* name) {
  answer(raw,
         [&](Request& request) { request.done(request.file_system().remove_xattr(node, name, request.caller())); });
}

}  // namespace

void add_attribute_operations(fuse_lowlevel_ops& table) {
  table.getattr = on_getattr;
  table.setattr = on_setattr;
  table.readlink = on_readlink;
  table.statfs = on_statfs;
  table.getxattr = on_getxattr;
  table.listxattr = on_listxattr;
  table.setxattr = on_setxattr;
  table.removexattr = on_removexattr;
}

}  // namespace rainfs::fuse
