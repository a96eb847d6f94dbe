// SPDX-License-Identifier: Apache-2.0
// What every thread that runs requests does first. Called once by the thread itself.
#pragma once

namespace rainfs::fuse {

// Gives the thread a name and a umask of its own (requests create files under their caller's).
void prepare_request_thread(const char* name) noexcept;

// Keeps the calling thread on one processor, where that is allowed. Threads that it starts are not kept there, if they
// say follow_process() first, as prepare_request_thread() does.
void stay_on_processor(unsigned number) noexcept;

// The signal that wakes a thread from receiving; prepare_request_thread() lets it in.
int wake_signal() noexcept;

}  // namespace rainfs::fuse
