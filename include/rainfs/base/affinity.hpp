// SPDX-License-Identifier: Apache-2.0
// Which processors a thread may run on is inherited from the one that starts it.
#pragma once

namespace rainfs::base {

// Lets the calling thread run where the process's main thread may: one thread that is kept on a processor has not
// others kept there with it. To be called first by threads that are started when they are needed, by whoever needs
// them.
void follow_process() noexcept;

}  // namespace rainfs::base
