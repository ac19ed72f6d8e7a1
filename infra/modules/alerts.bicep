metadata name = 'Alerts'
metadata description = 'Mails when a group is behind, has no point, needs a resync or a job failed, and when messages are dead-lettered.'

@description('Required. Begin of the names of the rules.')
param name string

@description('Optional. Region of the rules that ask the workspace.')
param location string = resourceGroup().location

@description('Optional. Tags.')
param tags object = {}

@description('Required. Mail addresses; none: the rules only show in the portal.')
param emails string[]

@description('Required. Resource id of the Log Analytics workspace.')
param workspaceResourceId string

@description('Required. Resource id of the Service Bus namespace.')
param serviceBusResourceId string

@description('Required. Table with the lines that the worker logs.')
@allowed(['ContainerAppConsoleLogs', 'FunctionAppLogs'])
param logTable string

// Each monitoring message is logged as one line of JSON, with its type in `event` (docs/monitoring.md). A line may reach the table minutes later, so
// windows overlap; an alert that has fired does not fire again until it has ended.
var events = join(
  [
    logTable
    '| extend line = parse_json(${logTable == 'FunctionAppLogs' ? 'Message' : 'Log'})'
    '| extend event = tostring(line.event), groupName = tostring(line.group)'
    '| where isnotempty(event) and isnotempty(groupName)'
  ],
  '\n'
)
var logAlerts = [
  {
    name: 'rpo-exceeded'
    title: 'More recent data than the policy allows would be lost now'
    severity: 2
    window: 'P2D'
    query: [
      '| summarize exceeded = maxif(TimeGenerated, event == "RpoThresholdExceeded"), normal = maxif(TimeGenerated, event == "RpoBackToNormal") by groupName'
      '| where isnotnull(exceeded) and (isnull(normal) or exceeded > normal)'
    ]
  }
  {
    // The health says so while a worker runs. When none does, nothing is said: then the last point counts, unless the group was stopped after it.
    name: 'no-point'
    title: 'No recovery point for 60 minutes'
    severity: 1
    window: 'P1D'
    query: [
      '| extend lacks = event == "HealthChanged" and tostring(line.symptoms) has "NO_CRASH_CONSISTENT_POINT"'
      '| summarize point = maxif(TimeGenerated, event == "PointCreated"), change = maxif(TimeGenerated, event in ("StateChanged", "JobChanged")), health = maxif(TimeGenerated, event == "HealthChanged"), lacking = maxif(TimeGenerated, lacks) by groupName'
      '| where (isnotnull(lacking) and lacking == health) or (point < ago(60m) and (isnull(change) or change < point))'
    ]
  }
  {
    name: 'resync-required'
    title: 'The log of a disk cannot be trusted any more'
    severity: 1
    window: 'PT30M'
    query: [
      '| where event == "ResyncRequired"'
    ]
  }
  {
    name: 'job-failed'
    title: 'A failover or another job failed; copies of disks may wait in the container failover'
    severity: 1
    window: 'PT30M'
    query: [
      '| where event == "JobChanged" and tostring(line.severity) == "error"'
    ]
  }
]

resource mail 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: 'ag-${name}'
  location: 'global'
  tags: tags
  properties: {
    emailReceivers: map(
      emails,
      email => {
        name: email
        emailAddress: email
        useCommonAlertSchema: true
      }
    )
    enabled: true
    groupShortName: 'tidemark'
  }
}

resource logRules 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [
  for alert in logAlerts: {
    name: 'alert-${name}-${alert.name}'
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: alert.title
      severity: alert.severity
      enabled: true
      scopes: [workspaceResourceId]
      evaluationFrequency: 'PT15M'
      windowSize: alert.window
      autoMitigate: true
      // The table is made by its first line.
      skipQueryValidation: true
      criteria: {
        allOf: [
          {
            query: '${events}\n${join(alert.query, '\n')}'
            timeAggregation: 'Count'
            operator: 'GreaterThan'
            threshold: 0
            dimensions: [
              {
                name: 'groupName'
                operator: 'Include'
                values: ['*']
              }
            ]
            failingPeriods: {
              minFailingPeriodsToAlert: 1
              numberOfEvaluationPeriods: 1
            }
          }
        ]
      }
      actions: {
        actionGroups: [mail.id]
      }
    }
  }
]

resource deadLetters 'Microsoft.Insights/metricAlerts@2018-03-01' = {
  name: 'alert-${name}-dead-letters'
  location: 'global'
  tags: tags
  properties: {
    description: 'Messages that nobody could carry out'
    severity: 2
    enabled: true
    scopes: [serviceBusResourceId]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT5M'
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          criterionType: 'StaticThresholdCriterion'
          name: 'dead-letters'
          metricNamespace: 'Microsoft.ServiceBus/namespaces'
          metricName: 'DeadletteredMessages'
          timeAggregation: 'Maximum'
          operator: 'GreaterThan'
          threshold: 0
          dimensions: [
            {
              name: 'EntityName'
              operator: 'Include'
              values: ['*']
            }
          ]
        }
      ]
    }
    actions: [
      {
        actionGroupId: mail.id
      }
    ]
  }
}

@description('Resource id of the action group.')
output resourceId string = mail.id

@description('Name of the action group.')
output name string = mail.name

@description('Resource group of the action group.')
output resourceGroupName string = resourceGroup().name
