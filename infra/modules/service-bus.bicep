metadata name = 'Service Bus'
metadata description = 'The namespace with the entities of infra/service-bus/Config.json, which the local broker reads too, and who may send and receive.'

import { roleIds } from 'roles.bicep'

@description('Required. Name of the namespace.')
@minLength(6)
@maxLength(50)
param name string

@description('Optional. Region.')
param location string = resourceGroup().location

@description('Optional. Tags.')
param tags object = {}

@description('Optional. Roles, each on one queue or topic.')
param roleAssignments entityRoleAssignmentType[] = []

@description('Optional. Disabled: by private endpoints only, which takes a Premium namespace.')
@allowed(['Enabled', 'Disabled'])
param publicNetworkAccess string = 'Enabled'

type entityRoleAssignmentType = {
  entity: string
  principalId: string
  principalType: 'Group' | 'ServicePrincipal' | 'User'
  role: string
}

var entities = any(loadJsonContent('../service-bus/Config.json').UserConfig.Namespaces[0])
var queueNames = map(entities.Queues, queue => queue.Name)
var topicNames = map(entities.Topics, topic => topic.Name)
var subscriptionList = flatten(map(
  entities.Topics,
  (topic, index) => map(topic.Subscriptions, subscription => union(subscription, { topic: index }))
))
// A new subscription has the rule $Default, which lets everything through; its first rule of our own takes that one's place.
var ruleList = flatten(map(
  subscriptionList,
  (subscription, index) =>
    map(
      subscription.?Rules ?? [],
      (rule, place) => union(rule, { subscription: index, azureName: place == 0 ? '$Default' : rule.Name })
    )
))
var tier = publicNetworkAccess == 'Enabled' ? 'Standard' : 'Premium'

resource namespace 'Microsoft.ServiceBus/namespaces@2024-01-01' = {
  name: name
  location: location
  tags: tags
  sku: {
    name: tier
    tier: tier
    capacity: tier == 'Premium' ? 1 : null
  }
  properties: {
    disableLocalAuth: true
    minimumTlsVersion: '1.2'
    publicNetworkAccess: publicNetworkAccess
  }
}

// Event Grid is a trusted service, and delivers past closed doors.
resource networkRules 'Microsoft.ServiceBus/namespaces/networkRuleSets@2024-01-01' = if (tier == 'Premium') {
  parent: namespace
  name: 'default'
  properties: {
    defaultAction: 'Deny'
    publicNetworkAccess: publicNetworkAccess
    trustedServiceAccessEnabled: true
  }
}

resource queues 'Microsoft.ServiceBus/namespaces/queues@2024-01-01' = [
  for queue in entities.Queues: {
    parent: namespace
    name: queue.Name
    properties: {
      deadLetteringOnMessageExpiration: queue.Properties.DeadLetteringOnMessageExpiration
      defaultMessageTimeToLive: queue.Properties.DefaultMessageTimeToLive
      duplicateDetectionHistoryTimeWindow: queue.Properties.DuplicateDetectionHistoryTimeWindow
      forwardDeadLetteredMessagesTo: empty(queue.Properties.ForwardDeadLetteredMessagesTo)
        ? null
        : queue.Properties.ForwardDeadLetteredMessagesTo
      forwardTo: empty(queue.Properties.ForwardTo) ? null : queue.Properties.ForwardTo
      lockDuration: queue.Properties.LockDuration
      maxDeliveryCount: queue.Properties.MaxDeliveryCount
      requiresDuplicateDetection: queue.Properties.RequiresDuplicateDetection
      requiresSession: queue.Properties.RequiresSession
    }
  }
]

resource topics 'Microsoft.ServiceBus/namespaces/topics@2024-01-01' = [
  for topic in entities.Topics: {
    parent: namespace
    name: topic.Name
    properties: {
      defaultMessageTimeToLive: topic.Properties.DefaultMessageTimeToLive
      duplicateDetectionHistoryTimeWindow: topic.Properties.DuplicateDetectionHistoryTimeWindow
      requiresDuplicateDetection: topic.Properties.RequiresDuplicateDetection
    }
  }
]

resource subscriptions 'Microsoft.ServiceBus/namespaces/topics/subscriptions@2024-01-01' = [
  for subscription in subscriptionList: {
    parent: topics[subscription.topic]
    name: subscription.Name
    properties: {
      deadLetteringOnMessageExpiration: subscription.Properties.DeadLetteringOnMessageExpiration
      defaultMessageTimeToLive: subscription.Properties.DefaultMessageTimeToLive
      forwardDeadLetteredMessagesTo: empty(subscription.Properties.ForwardDeadLetteredMessagesTo)
        ? null
        : subscription.Properties.ForwardDeadLetteredMessagesTo
      forwardTo: empty(subscription.Properties.ForwardTo) ? null : subscription.Properties.ForwardTo
      lockDuration: subscription.Properties.LockDuration
      maxDeliveryCount: subscription.Properties.MaxDeliveryCount
      requiresSession: subscription.Properties.RequiresSession
    }
  }
]

resource rules 'Microsoft.ServiceBus/namespaces/topics/subscriptions/rules@2024-01-01' = [
  for rule in ruleList: {
    parent: subscriptions[rule.subscription]
    name: rule.azureName
    properties: {
      filterType: '${rule.Properties.FilterType}Filter'
      sqlFilter: {
        sqlExpression: rule.Properties.SqlFilter.SqlExpression
      }
    }
  }
]

resource queueRoleAssignments 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for assignment in filter(roleAssignments, item => contains(queueNames, item.entity)): {
    name: guid(
      queues[indexOf(queueNames, assignment.entity)].id,
      assignment.principalId,
      roleIds[assignment.role]
    )
    scope: queues[indexOf(queueNames, assignment.entity)]
    properties: {
      principalId: assignment.principalId
      principalType: assignment.principalType
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds[assignment.role])
    }
  }
]

resource topicRoleAssignments 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for assignment in filter(roleAssignments, item => contains(topicNames, item.entity)): {
    name: guid(
      topics[indexOf(topicNames, assignment.entity)].id,
      assignment.principalId,
      roleIds[assignment.role]
    )
    scope: topics[indexOf(topicNames, assignment.entity)]
    properties: {
      principalId: assignment.principalId
      principalType: assignment.principalType
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds[assignment.role])
    }
  }
]

@description('Resource id of the namespace.')
output resourceId string = namespace.id

@description('Name of the namespace.')
output name string = namespace.name

@description('Resource group of the namespace.')
output resourceGroupName string = resourceGroup().name

@description('Region of the namespace.')
output location string = namespace.location

@description('Host name of the namespace, such as NAME.servicebus.windows.net.')
output hostName string = split(replace(namespace.properties.serviceBusEndpoint, 'https://', ''), ':')[0]
