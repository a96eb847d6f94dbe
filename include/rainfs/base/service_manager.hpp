// SPDX-License-Identifier: Apache-2.0
// What a program says to the service manager that started it, and how it is to be heard. Any thread; never blocks;
// nothing where there is no service manager.
#pragma once

#include <string>

namespace rainfs::base {

// One datagram in sd_notify(3)'s protocol to $NOTIFY_SOCKET ("READY=1").
void notify_service_manager(const std::string& state) noexcept;

// Whether standard error goes to the journal, which takes a priority before each line (JOURNAL_STREAM).
bool stderr_is_journal();

}  // namespace rainfs::base
