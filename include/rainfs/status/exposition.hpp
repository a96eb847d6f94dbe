// SPDX-License-Identifier: Apache-2.0
// What a mounted node counted, in the Prometheus text format, and what it last found out about the array (Heartbeat).
// Any thread; no I/O, so that a collector may ask as often as it likes, whatever hangs.
#pragma once

#include "rainfs/nas/array.hpp"
#include "rainfs/status/metered.hpp"
#include "rainfs/status/report.hpp"

namespace rainfs::status {

std::string to_metrics(nas::Array& array, const CallMeters& calls, const Daemon& daemon, const Report& found);

}  // namespace rainfs::status
